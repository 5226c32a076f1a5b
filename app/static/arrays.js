// Pictures as floats in [-1, 1], of one channel or three, the channels of each pixel side by side.

// Shows such numbers, from a place on, in a context; they are clamped and rounded.
export function paint(context, data, channels, from = 0) {
  const { width, height } = context.canvas;
  const pixels = context.createImageData(width, height);
  for (let pixel = 0; pixel < height * width; pixel++, from += channels) {
    for (let channel = 0; channel < 3; channel++) pixels.data[4 * pixel + channel] = (data[from + (channels === 1 ? 0 : channel)] + 1) * 127.5;
    pixels.data[4 * pixel + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

// Reads the numbers back from a context that shows whole grey levels.
export function floatsOf(context, channels) {
  const { width, height } = context.canvas;
  const { data } = context.getImageData(0, 0, width, height);
  return Float32Array.from({ length: width * height * channels }, (_, index) => data[4 * Math.floor(index / channels) + (index % channels)] / 127.5 - 1);
}
