// The texts of a model's card in English. es.js has the same keys.

export default {
  cardInsteadOf: "Draws instead of",
  cardSamples: "What it draws",
  cardSamplesHint: "The samples of its training. Press one to draw it again.",
  cardBy: "Arranged by",
  cardInTurn: "seed",
  cardQuality: "How good, and how long it takes",
  cardQualityHint: "Lower is better, further left is faster. A point shows its settings; press it to use them.",
  cardSeconds: "seconds for a picture here",
  cardPoint: (settings, distance, time) => `${settings}: ${distance}, ${time}`,
  cardCalls: calls => `${calls} calls`,
  cardTraining: "How it was trained",
  cardFigure: "Figure",
  cardFigures: { loss: "What it gets wrong (loss)", "held_out/loss": "The same on pictures kept from it", copies: "Share that look like copies", images_per_second: "Pictures per second", lr: "Learning rate", grad_norm: "Size of the gradient" },
  cardSmoothing: "Smoothing",
  cardBeside: "Beside it",
  cardNone: "none",
  cardStep: "Step",
  cardAtStep: step => `step ${step}`,
};
