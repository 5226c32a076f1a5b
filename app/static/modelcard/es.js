// Los textos de la ficha de un modelo en español. en.js tiene las mismas claves.

export default {
  cardInsteadOf: "Dibuja en lugar de",
  cardSamples: "Qué dibuja",
  cardSamplesHint: "Las muestras de su entrenamiento. Pulsa una para dibujarla de nuevo.",
  cardBy: "Ordenadas por",
  cardInTurn: "semilla",
  cardQuality: "Qué calidad, y cuánto tarda",
  cardQualityHint: "Más abajo es mejor, más a la izquierda es más rápido. Un punto muestra sus ajustes; púlsalo para usarlos.",
  cardSeconds: "segundos por imagen aquí",
  cardPoint: (settings, distance, time) => `${settings}: ${distance}, ${time}`,
  cardCalls: calls => `${calls} llamadas`,
  cardTraining: "Cómo se entrenó",
  cardFigure: "Medida",
  cardFigures: { loss: "Cuánto se equivoca (pérdida)", "held_out/loss": "Lo mismo con imágenes apartadas", copies: "Parte que parecen copias", images_per_second: "Imágenes por segundo", lr: "Tasa de aprendizaje", grad_norm: "Tamaño del gradiente" },
  cardSmoothing: "Suavizado",
  cardBeside: "Junto a",
  cardNone: "ninguno",
  cardStep: "Paso",
  cardAtStep: step => `paso ${step}`,
};
