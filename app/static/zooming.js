// One view for several canvases: how much of their pictures is seen, and where.

const MOST = 16; // times
const STEP = 0.1; // by a key, of what is seen
const within = (low, value, high) => Math.min(high, Math.max(low, value));

export class Zoom {
  by = 1;
  #at = [0.5, 0.5]; // the middle of what is seen, as shares of the picture

  lay(context, bitmap) {
    const part = 1 / this.by;
    const [left, top] = this.#at.map(middle => within(0, middle - part / 2, 1 - part));
    const [width, height] = [bitmap.width, bitmap.height];
    context.drawImage(bitmap, left * width, top * height, part * width, part * height, 0, 0, context.canvas.width, context.canvas.height);
  }

  scale(factor) {
    this.by = within(1, this.by * factor, MOST);
    this.move(0, 0);
  }

  move(x, y) {
    const half = 0.5 / this.by;
    this.#at = [this.#at[0] + x, this.#at[1] + y].map(each => within(half, each, 1 - half));
  }

  // Lets the canvases in an element be zoomed at the mouse by its wheel, moved by dragging, and both by keys.
  listen(element, draw) {
    element.addEventListener("wheel", event => {
      if (!event.target.matches("canvas, input")) return;
      event.preventDefault();
      const box = event.target.getBoundingClientRect();
      const place = [(event.clientX - box.left) / box.width - 0.5, (event.clientY - box.top) / box.height - 0.5];
      const before = 1 / this.by;
      this.scale(Math.exp(-event.deltaY / 300));
      this.move(...place.map(each => each * (before - 1 / this.by))); // what lies under the mouse stays there
      draw();
    }, { passive: false });
    element.addEventListener("pointermove", event => {
      if (!event.buttons || !event.target.matches("canvas")) return;
      const { width, height } = event.target.getBoundingClientRect();
      this.move(-event.movementX / width / this.by, -event.movementY / height / this.by);
      draw();
    });
    const ways = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    const factors = { "+": 1.5, "-": 1 / 1.5 };
    element.addEventListener("keydown", event => {
      const [way, factor] = [ways[event.key], factors[event.key]];
      if (!(way || factor) || !event.target.matches("canvas")) return;
      way ? this.move(...way.map(each => each / this.by)) : this.scale(factor);
      draw();
      event.preventDefault();
      event.stopPropagation();
    });
  }
}
