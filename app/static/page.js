// The page at /: requests pictures, follows the events of their jobs, and shows the results, all over the HTTP API.

import { addKinds } from "./kinds.js";

const form = document.getElementById("form");
const jobs = document.getElementById("jobs");
const template = document.getElementById("job");
const access = document.getElementById("access");
const ENDS = ["succeeded", "failed", "cancelled"];
const KEY = "difuso-key";
let models = new Map();
let entered; // a promise that resolves when the user has entered a key

// Resolves to a successful response; asks the user for an API key if the server needs one.
async function request(path, { headers, ...rest } = {}) {
  const key = sessionStorage.getItem(KEY);
  let response;
  try {
    response = await fetch(path, { ...rest, headers: { ...headers, ...(key && { Authorization: `Bearer ${key}` }) } });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  if (response.status === 401) {
    await (entered ??= enterKey(key));
    return request(path, { headers, ...rest });
  }
  const body = await response.json();
  const about = body.errors?.map(found => `${found.parameter ?? found.part ?? found.header ?? "body"}: ${found.detail}`);
  const wait = response.headers.get("Retry-After");
  const text = `${body.title}. ${about?.join("; ") ?? body.detail}`;
  throw new Error(wait ? `${text} (Try again in ${wait} s.)` : text);
}

async function ask(method, path, headers = {}, files = undefined) {
  return (await request(path, { method, headers, body: files })).json();
}

// Resolves when the user has entered a key; the next response tells whether it is valid.
function enterKey(before) {
  document.getElementById("access-why").textContent = before
    ? "The server does not know this key."
    : "This server needs an API key. The key stays in this tab until you close it.";
  access.showModal();
  return new Promise(resolve => {
    access.querySelector("form").onsubmit = event => {
      event.preventDefault();
      const input = document.getElementById("key");
      sessionStorage.setItem(KEY, input.value.trim());
      input.value = "";
      entered = undefined;
      access.close();
      showAccess();
      resolve();
    };
  });
}

// Hides the link to /models if there is a key, because a link cannot send it.
function showAccess() {
  document.getElementById("guarded").hidden = sessionStorage.getItem(KEY) !== null;
}

// Resolves to a URL for an image or a link: the path, or with a key a blob URL of its content.
async function address(path) {
  if (sessionStorage.getItem(KEY) === null) return path;
  return URL.createObjectURL(await (await request(path)).blob());
}

// Yields server-sent events as [name, data]. An EventSource could not send the key.
async function* eventsOf(path) {
  const reader = (await request(path)).body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map(line => line.split(/: ?(.*)/s, 2)));
      if (fields.has("data")) yield [fields.get("event"), JSON.parse(fields.get("data"))];
    }
  }
}

function complain(element, error) {
  element.textContent = error?.message ?? "";
  element.hidden = !error;
}

// Fills the lists of choices from the parameters in the OpenAPI description.
async function loadChoices() {
  const { paths } = await ask("GET", "/openapi.json");
  const { parameters } = paths["/generate"].post;
  for (const select of form.querySelectorAll("select[data-choices]")) {
    const { schema } = parameters.find(parameter => parameter.name === select.name);
    const names = schema.examples ?? schema.anyOf.flatMap(part => part.enum ?? []);
    select.append(...names.map(name => new Option(name)));
  }
  addKinds(form, paths);
  showKind();
}

async function loadModels() {
  const list = await ask("GET", "/models");
  models = new Map(list.models.filter(model => model.defaults).map(model => [model.name, model]));
  const options = [...models.keys()].map(name => new Option(name, name, false, name === list.default));
  form.model.replaceChildren(...options);
  showModel();
  showKind();
}

// Width and height of a model's pictures; the API tells the side of a square, or height and width.
function sides({ image_size: size }) {
  return Array.isArray(size) ? size.toReversed() : [size, size];
}

function showModel() {
  const model = models.get(form.model.value);
  if (!model) return;
  const { sampler, steps } = model.defaults;
  const speed = model.rate ? `${Math.round(model.rate)} steps per second` : model.reason ?? "no worker yet";
  document.getElementById("facts").textContent =
    `${sides(model).join("×")}, ${sampler} with ${steps} steps by default; ${speed}`;
  form.steps.max = model.num_train_timesteps;
  const plans = Object.keys(model.plans);
  document.getElementById("plans").hidden = !plans.length;
  form.plan.replaceChildren(new Option("default", ""), ...plans.map(name => new Option(name, name)));
  showClasses(model);
  const enlarge = [...models.values()].filter(({ condition: to }) => to?.size === model.image_size && to.channels === model.channels);
  form.upscale.replaceChildren(new Option("nothing", ""), ...enlarge.map(({ name }) => new Option(name, name)));
  const variances = new Set(["fixed_small", "fixed_large", model.variance]);
  form.variance.replaceChildren(new Option("default", ""), ...[...variances].map(name => new Option(name)));
}

function showClasses({ classes, classifier_classes, label_required }) {
  const names = classes ?? Array.from({ length: classifier_classes ?? 0 }, (_, index) => String(index));
  const any = label_required ? [] : [new Option("any", "")];
  const all = names.length > 1 && !names.includes("all") ? [new Option("all in turn", "all")] : [];
  document.getElementById("classes").hidden = !names.length;
  document.getElementById("free").hidden = !classes || label_required;
  document.getElementById("classifier").hidden = !classifier_classes;
  form.label.replaceChildren(...any, ...names.map(name => new Option(name)), ...all);
  form.guidance_scale.value = form.classifier_scale.value = "";
}

// Shows the fields of the chosen kind of job; all others are disabled, so that they are not sent.
function showKind() {
  const kind = document.getElementById("kind").value;
  const task = kind === "restore" ? form.elements.task.value : "";
  for (const part of form.querySelectorAll("[data-when]")) {
    const wanted = part.dataset.when.split(" ");
    part.hidden = part.disabled = !wanted.includes(kind) && !wanted.includes(task);
  }
  showModels(kind === "upscale");
  const enlarge = document.getElementById("enlarge");
  enlarge.hidden = enlarge.disabled = enlarge.hidden || form.upscale.options.length < 2;
  const guess = form.querySelector("[data-when=denoise] [name=mode]").value === "mmse";
  const several = listed(form.seed.value).length > 1; // the number of pictures follows from the seeds
  const ends = document.getElementById("ends"); // two seeds take the place of both pictures
  ends.hidden = ends.disabled = several;
  form.elements.n.disabled = kind === "interpolate" || (kind === "denoise" && guess) || several;
}

// Offers the models that draw from a picture, or those that draw from noise.
function showModels(fromPicture) {
  const fits = name => Boolean(models.get(name)?.condition) === fromPicture;
  for (const option of form.model.options) {
    option.hidden = !fits(option.value);
    option.disabled = option.hidden || models.get(option.value).state === "refused";
  }
  for (const option of document.querySelectorAll("#kind option[value=upscale]")) {
    option.hidden = ![...models.values()].some(model => model.condition);
  }
  if (!form.model.value || fits(form.model.value)) return;
  form.model.value = [...form.model.options].find(option => !option.disabled)?.value ?? "";
  showModel();
}

function listed(text) {
  return text.split(/[\s,]+/).filter(Boolean);
}

// Splits the form into the query string and the files.
function readForm() {
  const query = new URLSearchParams();
  const files = new FormData();
  for (const [name, value] of new FormData(form)) {
    if (value instanceof File) files.append(name, value);
    else if (name === "lambda" || name === "seed") listed(value).forEach(each => query.append(name, each));
    else if (value !== "") query.append(name, value);
  }
  return { query, files };
}

function describe({ kind, model, params, task }) {
  const count = task?.average ? "The mean of " + params.n : params.n;
  const what = {
    generate: () => (task?.upscale ? ` enlarged by ${task.upscale.model}` : ""),
    interpolate: () => (task.seeds ? " between two seeds" : " between two"),
    denoise: () => ` without noise of σ ${task.sigma.toFixed(1)}${task.estimated ? " (estimated)" : ""}`,
    restore: () => ` restored (${task.task})`,
    upscale: () => " from one",
  }[kind]?.() ?? ` (${kind})`;
  return `${count} ${params.n === 1 ? "picture" : "pictures"}${what} by ${model}, ${params.steps} steps of ${params.sampler}`;
}

function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

class Card {
  constructor(job, { query, files }) {
    this.job = job;
    this.query = query;
    this.files = files;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.find("h2").textContent = describe(job);
    this.find(".cancel").addEventListener("click", () => this.cancel());
    this.find(".copy").addEventListener("click", event => this.copy(event.target));
    const model = models.get(job.model);
    if (model) this.element.style.setProperty("--aspect", sides(model).join(" / "));
    const count = job.task?.average ? 1 : job.params.n;
    this.find(".pictures").replaceChildren(...Array.from({ length: count }, (_, index) => this.tile(index)));
    this.showProgress(job);
    this.follow();
  }

  // A name that distinguishes a picture of the job from the others.
  name(index) {
    const { params, task } = this.job;
    const { seed, label } = params;
    const name = Array.isArray(label) ? `, ${models.get(this.job.model)?.classes?.[label[index]] ?? label[index]}` : "";
    if (task?.shares) return `λ ${task.shares[index]}${name}`;
    return task?.average ? `mean of ${params.n}` : `seed ${Array.isArray(seed) ? seed[index] : seed + index}${name}`;
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  tile(index) {
    const figure = document.createElement("figure");
    const blank = document.createElement("div");
    blank.className = "blank";
    const caption = document.createElement("figcaption");
    caption.textContent = this.name(index);
    figure.append(blank, caption);
    return figure;
  }

  picture(index, source, finished) {
    const figure = this.find(".pictures").children[index];
    if (!figure) return; // a mean has previews of all its samples, but only one picture
    const image = new Image();
    image.src = source;
    image.alt = `${finished ? "Picture" : "Unfinished picture"}, ${this.name(index)}`;
    figure.className = finished ? "" : "unfinished";
    if (!finished) return figure.firstElementChild.replaceWith(image);
    const link = document.createElement("a");
    link.href = source;
    link.append(image);
    figure.firstElementChild.replaceWith(link);
  }

  // Opens the stream again after 3 s if it ends before the job does, for example because the server restarts.
  async follow() {
    try {
      for await (const [event, data] of eventsOf(this.job.links.events)) {
        if (ENDS.includes(event)) return this.showEnd(data);
        if (event === "progress") this.showProgress(data);
        if (event === "preview") this.picture(data.index, `data:image/png;base64,${data.png}`, false);
      }
    } catch (error) {
      complain(this.find(".error"), error);
      if (error.message.startsWith("No such job")) return;
    }
    this.find(".state").textContent = "Reconnecting …";
    setTimeout(() => this.follow(), 3000);
  }

  showProgress({ state, position, steps, eta_seconds: eta }) {
    complain(this.find(".error"), null);
    const left = eta === undefined ? "" : `, about ${Math.max(1, Math.round(eta))} s left`;
    const place = position ? `${position} ${position === 1 ? "job" : "jobs"} before this one` : "next in the queue";
    this.find(".state").textContent =
      state === "queued" ? `Waiting, ${place}${left}` : `Step ${steps.done} of ${steps.total}${left}`;
    this.find("progress").max = steps.total;
    this.find("progress").value = steps.done;
  }

  async showEnd(job) {
    this.job = job;
    this.find("progress").remove();
    this.find(".cancel").hidden = true;
    if (job.state !== "succeeded") {
      this.find(".pictures").remove();
      this.find(".state").textContent = job.state === "cancelled" ? "Cancelled" : "Failed";
      if (job.failure) complain(this.find(".error"), new Error(`${job.failure.detail} (${job.failure.code})`));
      return;
    }
    this.find(".state").textContent = `Done in ${job.timings.total.toFixed(1)} s, kept until ${new Date(job.expires_at).toLocaleString()}`;
    this.find("code").textContent = this.command();
    this.find(".again").hidden = false;
    try {
      const { images } = job.links; // absent if they have other channels than a PNG: then all are one file of arrays
      for (const [index, path] of images?.entries() ?? []) this.picture(index, await address(path), true);
      if (images?.length === 1) return;
      const sheet = this.find(".sheet");
      sheet.href = await address(job.links.image);
      sheet.download = `${job.id}.${images ? "png" : "npz"}`;
      if (!images) sheet.textContent = "Save all as arrays (.npz)";
      sheet.hidden = false;
    } catch (error) {
      complain(this.find(".error"), error);
    }
  }

  command() {
    const query = new URLSearchParams(this.query);
    query.delete("seed");
    [this.job.task?.seeds ?? this.job.params.seed].flat().forEach(seed => query.append("seed", seed));
    const parts = [...this.files].map(([name, file]) => ` -F ${quote(`${name}=@${file.name}`)}`).join("");
    const key = sessionStorage.getItem(KEY) === null ? "" : ' -H "Authorization: Bearer $DIFUSO_KEY"';
    return `curl -X POST '${location.origin}/${this.job.kind}?${query}'${key}${parts} -o pictures.${this.job.links.images ? "png" : "npz"}`;
  }

  async copy(button) {
    try {
      await navigator.clipboard.writeText(this.command());
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(this.find("code")); // without HTTPS there is no clipboard; the keyboard can copy
    }
  }

  async cancel() {
    try {
      await ask("DELETE", this.job.links.self);
    } catch (error) {
      complain(this.find(".error"), error);
    }
  }
}

access.addEventListener("cancel", event => event.preventDefault()); // the page is useless without a key
form.model.addEventListener("change", showModel);
form.addEventListener("change", showKind);
form.addEventListener("input", showKind); // at once, too: a form that changes when a field is left moves the button away
form.addEventListener("submit", async event => {
  event.preventDefault();
  const alarm = document.getElementById("error");
  const { query, files } = readForm();
  const kind = document.getElementById("kind").value;
  try {
    const body = [...files].length ? files : undefined;
    const job = await ask("POST", `/${kind}?${query}`, { Prefer: "respond-async" }, body);
    complain(alarm, null);
    document.getElementById("empty")?.remove();
    jobs.prepend(new Card(job, { query, files }).element);
  } catch (error) {
    complain(alarm, error);
  }
});

showAccess();
showKind(); // browsers keep the choices when the page is reloaded
Promise.all([loadChoices(), loadModels()]).catch(error => complain(document.getElementById("error"), error));
