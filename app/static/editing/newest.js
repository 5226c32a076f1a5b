// Asks for the newest of many values: one request is on its way at a time, and after it comes only the last that was wanted.

export class Newest {
  #wanted; // {value} that comes after the one on its way
  #flight; // {value, since, controller, timer} of the one on its way

  // `send(value, signal)` resolves to an answer, which `show(answer, value)` gets, or `fail(error)` the error. Once a newer value
  // waits, a request is cancelled when it has taken `patience(value)` milliseconds; one that is faster is shown on the way.
  constructor(options) {
    Object.assign(this, options);
  }

  want(value) {
    this.#wanted = { value };
    if (!this.#flight) return void this.#run();
    const { value: older, since, controller } = this.#flight;
    const left = since + this.patience(older) - performance.now();
    if (left <= 0) controller.abort();
    else this.#flight.timer ??= setTimeout(() => controller.abort(), left);
  }

  // Cancels what is on its way and forgets what waits: whatever comes back is not shown.
  stop() {
    this.#wanted = undefined;
    this.#flight?.controller.abort();
  }

  async #run() {
    while (this.#wanted) {
      const [{ value }, controller] = [this.#wanted, new AbortController()];
      this.#wanted = undefined;
      this.#flight = { value, since: performance.now(), controller };
      const end = await this.send(value, controller.signal).then(answer => () => this.show(answer, value), error => () => this.fail(error));
      clearTimeout(this.#flight.timer);
      this.#flight = undefined;
      if (!controller.signal.aborted) end();
    }
  }
}
