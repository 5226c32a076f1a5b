// The noise of a seed, the same that the server draws: torch.randn on a CPU, which is the Mersenne twister (Matsumoto and
// Nishimura 1998) and the transform of Box and Muller (1958) on blocks of sixteen numbers.

const SIZE = 624;
const SHIFT = 397;
const BLOCK = 16;

function twister(seed) {
  const state = new Uint32Array(SIZE);
  state[0] = seed % 2 ** 32;
  for (let each = 1; each < SIZE; each++) {
    const before = state[each - 1] ^ (state[each - 1] >>> 30);
    state[each] = Math.imul(1812433253, before) + each;
  }
  let at = 0;
  return () => {
    const next = (at + 1) % SIZE;
    const mixed = (state[at] & 0x80000000) | (state[next] & 0x7fffffff);
    state[at] = state[(at + SHIFT) % SIZE] ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
    let bits = state[at];
    at = next;
    bits ^= bits >>> 11;
    bits ^= (bits << 7) & 0x9d2c5680;
    bits ^= (bits << 15) & 0xefc60000;
    return bits ^ (bits >>> 18);
  };
}

// Returns standard normal noise for a picture of this shape, the channels of each pixel side by side; at least sixteen numbers.
export function noiseOf(seed, [channels, height, width]) {
  const next = twister(seed);
  const uniform = () => (next() & 0xffffff) / 2 ** 24;
  const count = channels * height * width;
  const drawn = Float32Array.from({ length: count }, uniform);
  const transform = from => {
    for (let each = from; each < from + BLOCK / 2; each++) {
      const radius = Math.sqrt(-2 * Math.log(1 - drawn[each]));
      const angle = 2 * Math.PI * drawn[each + BLOCK / 2];
      drawn[each] = radius * Math.cos(angle);
      drawn[each + BLOCK / 2] = radius * Math.sin(angle);
    }
  };
  for (let from = 0; from + BLOCK <= count; from += BLOCK) transform(from);
  if (count % BLOCK) {
    for (let each = count - BLOCK; each < count; each++) drawn[each] = uniform();
    transform(count - BLOCK);
  }
  return Float32Array.from({ length: count }, (_, index) => drawn[(index % channels) * height * width + Math.floor(index / channels)]);
}
