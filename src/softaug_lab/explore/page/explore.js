// The page of `softaug explore`. It draws what the server computes: no augmentation happens here.

const find = (selector, within = document) => within.querySelector(selector);
const between = (low, value, high) => Math.max(low, Math.min(value, high));
const hundredths = (value) => value.toFixed(2);
const AXES = { left: 44, right: 332, top: 8, bottom: 196 }; // of a plot, in its own units
const NAMES = { hide: "hidden", cut: "cut off" };
const TRAIL = 400; // places of a drag that the plot keeps

let about; // what the server says of data, model and controls
const asked = { k: 2, flip: true, images: 0, draw: 0 }; // of the augmentation, beside text or settings
let settings = { fill: "mixed", on: {} }; // of the controls, where they stand for the text
let curve = []; // its points
const stage = { image: 0, fill: "0", side: 1, hide: { x: 0, y: 0 }, cut: { x: 0, y: 0 } };
const now = {}; // what each stage shows: v, p, right
const trails = { hide: [], cut: [] }; // what the model said during drags: v, p, right

async function ask(question, body) {
  const answer = await fetch(question, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  const found = await answer.json();
  find("#lost").hidden = true;
  if (!answer.ok) throw new RangeError(found.error);
  return found;
}

// Send one request at a time; of those that are asked for meanwhile, only the last one.
function lastOf(send) {
  let busy = false;
  let waiting = null;
  return async (...request) => {
    waiting = request;
    if (busy) return;
    busy = true;
    while (waiting) {
      const next = waiting;
      waiting = null;
      try {
        await send(...next);
      } catch (error) {
        showFault(error);
      }
    }
    busy = false;
  };
}

function showFault(error) {
  if (error instanceof RangeError) {
    find("#fault").textContent = error.message;
  } else {
    find("#lost").textContent = "softaug explore does not answer: it has ended, or is busy.";
    find("#lost").hidden = false;
  }
}

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// --- the augmentation ---------------------------------------------------------------------

const augment = lastOf(async (request) => {
  const found = await ask("augment", request);
  find("#fault").textContent = "";
  if (document.activeElement !== find("#text")) find("#text").value = found.text;
  find("#command").textContent = found.command;
  find("#beyond").hidden = found.settings !== null;
  if (request.text !== undefined && found.settings) {
    settings = { ...found.settings, fill: found.settings.fill ?? settings.fill };
  }
  curve = found.curve;
  showSettings();
  showImages(found.images);
  drawCurve(found.images);
  drawTrails();
});

const bySettings = () => augment({ ...asked, settings });
const byText = () => augment({ ...asked, text: find("#text").value });
// Images and k change under the text, which may say more than the sliders do.
const again = () => (find("#beyond").hidden ? bySettings() : byText());

function makeControls() {
  find("#controls").append(...about.controls.map(makeControl));
  for (const [id, fills] of [["#fill", about.fills], ["#stage-fill", about.stage_fills]]) {
    find(id).append(...Object.entries(fills).map(([value, text]) => make("option", { value, text })));
  }
}

function makeControl({ word, label, sliders }) {
  const box = make("input", { type: "checkbox", name: word });
  box.addEventListener("change", () => {
    const start = Object.fromEntries(sliders.map(({ option, start }) => [option, start]));
    if (box.checked) settings.on[word] = start;
    else delete settings.on[word];
    bySettings();
  });
  const made = sliders.map((slider) => makeSlider(word, label, slider));
  return make("div", {}, make("label", { className: "row switch" }, box, label), ...made);
}

function makeSlider(word, label, slider) {
  const name = `${word}-${slider.option}`;
  // Any step, so that a value from the text is shown as it is; a move is rounded.
  const step = slider.step < 1 ? "any" : slider.step;
  const input = make("input", { type: "range", id: name, min: slider.low, max: slider.high, step });
  input.ariaLabel = `${label}: ${slider.label}`;
  input.addEventListener("input", () => {
    settings.on[word][slider.option] = rounded(input.value, slider.step);
    bySettings();
  });
  return make(
    "div", { className: "row slider" },
    make("label", { htmlFor: name }, slider.label), make("output", { htmlFor: name }), input,
  );
}

const rounded = (value, step) => Number((Math.round(value / step) * step).toFixed(4));

function showSettings() {
  for (const { word, sliders } of about.controls) {
    const values = settings.on[word];
    find(`[name=${word}]`).checked = Boolean(values);
    for (const { option } of sliders) {
      const input = find(`#${word}-${option}`);
      input.parentElement.hidden = !values;
      if (values) setRange(input, values[option]);
    }
  }
  find("#fill").value = settings.fill;
  find("#flip").checked = asked.flip;
  setRange(find("#k"), asked.k);
}

function setRange(input, value) {
  // Not while it is dragged: an answer may be older than the hand.
  if (!input.matches(":active")) input.value = value;
  find("output", input.parentElement).textContent = value;
}

function showImages(images) {
  const list = find("#images");
  if (list.children.length !== images.length) {
    list.replaceChildren(...images.map(() => {
      const button = make(
        "button", { type: "button" }, make("img", { alt: "" }), make("span", { className: "name" }),
        make("span", { className: "figures" }),
      );
      button.addEventListener("click", () => choose(Number(button.dataset.index)));
      return make("li", {}, button);
    }));
  }
  images.forEach((image, i) => {
    const button = find("button", list.children[i]);
    button.dataset.index = image.index;
    find("img", button).src = `data:image/png;base64,${image.png}`;
    find(".name", button).textContent = image.class;
    find(".name", button).title = image.class;
    find(".figures", button).textContent =
      `v ${hundredths(image.visibility)}  p ${hundredths(image.confidence)}`;
  });
  if (!images.some(({ index }) => index === stage.image)) choose(images[0].index);
  markChosen();
}

function markChosen() {
  for (const button of document.querySelectorAll("#images button")) {
    button.ariaPressed = Number(button.dataset.index) === stage.image;
  }
}

// --- plots --------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
const across = (v) => AXES.left + v * (AXES.right - AXES.left);
const down = (p) => AXES.bottom - p * (AXES.bottom - AXES.top);

function mark(svg, name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  svg.append(made);
}

function drawAxes(svg) {
  svg.replaceChildren();
  for (const at of [0, 0.5, 1]) {
    mark(svg, "path", { class: "grid", d: `M${AXES.left} ${down(at)}H${AXES.right}` });
    mark(svg, "text", { x: AXES.left - 6, y: down(at) + 4, "text-anchor": "end" }, at);
    const anchor = { 0: "start", 0.5: "middle", 1: "end" }[at];
    mark(svg, "text", { x: across(at), y: AXES.bottom + 15, "text-anchor": anchor }, at);
  }
  mark(svg, "path", { class: "axis", d: `M${AXES.left} ${AXES.top}V${AXES.bottom}H${AXES.right}` });
  mark(svg, "text", { x: across(0.5), y: AXES.bottom + 30, "text-anchor": "middle" }, "visibility v");
  const turned = `rotate(-90 10 ${down(0.5)})`;
  mark(svg, "text", { x: 10, y: down(0.5), "text-anchor": "middle", transform: turned }, "confidence p");
  const points = curve.map(([v, p]) => `${across(v).toFixed(1)} ${down(p).toFixed(1)}`);
  mark(svg, "path", { class: "curve", d: `M${points.join("L")}` });
}

function drawCurve(images) {
  const svg = find("#curve");
  drawAxes(svg);
  for (const { visibility: v, confidence: p } of images) {
    mark(svg, "circle", { class: "dot", cx: across(v), cy: down(p), r: 3.2 });
  }
  const mean = (key) => hundredths(images.reduce((sum, one) => sum + one[key], 0) / images.length);
  const means = `Means of these ${images.length} images: v ${mean("visibility")}, p ${mean("confidence")}.`;
  find("#means").textContent = means;
  find("#formula").textContent = `p = 1 − (1 − 1/${about.classes})(1 − v)^${asked.k}`;
  const [low, high] = [curve[0][1], curve[curve.length - 1][1]].map(hundredths);
  svg.ariaLabel = `The curve from p ${low} where nothing is visible to ${high}, k = ${asked.k}. ${means}`;
}

function drawTrails() {
  const svg = find("#trails");
  drawAxes(svg);
  const dot = (kind, { v, p, right }, extra = "") => {
    const [x, y, r] = [across(v), down(p), extra ? 5 : 2.6];
    const look = { class: `${kind} ${right ? "" : "wrong"} ${extra}` };
    if (kind === "cut") mark(svg, "circle", { ...look, cx: x, cy: y, r });
    else mark(svg, "rect", { ...look, x: x - r, y: y - r, width: 2 * r, height: 2 * r });
  };
  for (const kind of ["hide", "cut"]) trails[kind].forEach((place) => dot(kind, place));
  for (const kind of ["hide", "cut"]) if (now[kind]) dot(kind, now[kind], "now");
  const said = Object.entries(now).map(([kind, { v, p }]) => `${NAMES[kind]} v ${hundredths(v)}, p ${hundredths(p)}`);
  svg.ariaLabel = `Confidence against visibility, with the curve: ${said.join("; ")}`;
}

// --- one image, part of it lost -------------------------------------------------------------

const ways = {
  hide: lastOf(() => lookAt("hide", { side: stage.side })),
  cut: lastOf(() => lookAt("cut", {})),
};

async function lookAt(kind, more) {
  const { image, fill } = stage;
  const found = await ask(kind, { image, fill, k: asked.k, ...stage[kind], ...more });
  if (image !== stage.image || fill !== stage.fill) return; // another one was chosen meanwhile
  const at = find(`#${kind}`);
  find(".view", at).src = `data:image/png;base64,${found.png}`;
  find(".view", at).alt = `${found.class}, ${percent(found.visibility)} of it visible`;
  find(".line", at).textContent = sentence(found);
  find(".top", at).replaceChildren(...(found.prediction?.top ?? []).map(topRow));
  const { top, right } = found.prediction ?? { top: [found], right: true };
  now[kind] = { v: found.visibility, p: top[0].confidence, right };
  if (found.prediction) {
    trails[kind].push(now[kind]);
    trails[kind].splice(0, trails[kind].length - TRAIL);
  }
  drawTrails();
}

const percent = (share) => `${(100 * share).toFixed(0)} %`;

function sentence({ visibility, confidence, prediction, ...found }) {
  const shown = `${percent(visibility)} visible: the curve gives ${hundredths(confidence)}`;
  if (!prediction) return `${shown} to ${found.class}.`;
  const [best] = prediction.top;
  const verdict = prediction.right ? "right" : `wrong, it is ${found.class}`;
  return `${shown}, the model gives ${hundredths(best.confidence)} to ${best.class} (${verdict}).`;
}

function topRow({ class: name, confidence, true: isTrue }) {
  return make(
    "li", { className: isTrue ? "true" : "" }, make("span", { title: name }, name),
    make("meter", { value: confidence, ariaLabel: name }),
    make("span", { className: "number" }, hundredths(confidence)),
  );
}

function look() {
  for (const kind of ["hide", "cut"]) {
    placeHandle(kind);
    ways[kind]();
  }
}

async function choose(index) {
  stage.image = index;
  markChosen();
  forget();
  look();
  const whole = await ask("cut", { image: index, fill: stage.fill, k: asked.k, x: 0, y: 0 });
  if (index === stage.image) find(".ghost").src = `data:image/png;base64,${whole.png}`;
}

function forget() {
  for (const kind of ["hide", "cut"]) trails[kind].length = 0;
}

// Where the handle is, and how far it goes, in pixels of the image.
function limits(kind) {
  const { width, height } = about;
  const half = stage.side / 2;
  return kind === "cut"
    ? { x: [-width, width], y: [-height, height], size: [width, height] }
    : { x: [-half, width - half], y: [-half, height - half], size: [stage.side, stage.side] };
}

function move(kind, x, y) {
  const { x: [left, right], y: [top, bottom] } = limits(kind);
  stage[kind] = { x: between(Math.ceil(left), Math.round(x), Math.floor(right)),
    y: between(Math.ceil(top), Math.round(y), Math.floor(bottom)) };
  placeHandle(kind);
  ways[kind]();
}

function placeHandle(kind) {
  const room = find(`#${kind} .room`);
  const { offsetLeft, offsetTop, clientWidth, clientHeight } = find(".frame", room);
  const [across, down] = [clientWidth / about.width, clientHeight / about.height];
  const { x, y } = stage[kind];
  const [wide, tall] = limits(kind).size;
  for (const moved of room.querySelectorAll(".handle, .ghost")) {
    moved.style.left = `${offsetLeft + x * across}px`;
    moved.style.top = `${offsetTop + y * down}px`;
    moved.style.width = `${wide * across}px`;
    moved.style.height = `${tall * down}px`;
  }
}

function makeDraggable(kind) {
  const room = find(`#${kind} .room`);
  const handle = find(".handle", room);
  let held = null; // where the pointer is, less where the handle is, in pixels of the image
  const place = (event) => {
    const frame = find(".frame", room).getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width * about.width,
      (event.clientY - frame.top) / frame.height * about.height];
  };
  room.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const [x, y] = place(event);
    held = [x - stage[kind].x, y - stage[kind].y];
    if (event.target !== handle && kind === "hide") held = [stage.side / 2, stage.side / 2];
    room.setPointerCapture(event.pointerId);
    move(kind, x - held[0], y - held[1]);
    handle.focus({ preventScroll: true, focusVisible: false });
    event.preventDefault();
  });
  room.addEventListener("pointermove", (event) => {
    if (!held) return;
    const [x, y] = place(event);
    move(kind, x - held[0], y - held[1]);
  });
  for (const end of ["pointerup", "pointercancel"]) room.addEventListener(end, () => { held = null; });
  handle.addEventListener("keydown", (event) => {
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [];
    if (x === undefined) return;
    const far = event.shiftKey ? Math.ceil(Math.min(about.width, about.height) / 8) : 1;
    move(kind, stage[kind].x + far * x, stage[kind].y + far * y);
    event.preventDefault();
  });
}

function putBack() {
  stage.hide = { x: Math.round((about.width - stage.side) / 2), y: Math.round((about.height - stage.side) / 2) };
  stage.cut = { x: 0, y: 0 };
  forget();
  look();
}

// --- the beginning --------------------------------------------------------------------------

function listen() {
  find("#form").addEventListener("submit", (event) => event.preventDefault());
  find("#flip").addEventListener("change", (event) => { asked.flip = event.target.checked; again(); });
  find("#fill").addEventListener("change", (event) => { settings.fill = event.target.value; bySettings(); });
  find("#k").addEventListener("input", (event) => { asked.k = rounded(event.target.value, 0.1); again(); look(); });
  let typed;
  find("#text").addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(byText, 300); });
  find("#again").addEventListener("click", () => { asked.draw += 1; again(); });
  find("#others").addEventListener("click", () => { asked.images += 1; asked.draw = 0; again(); });
  find("#copy").addEventListener("click", async (event) => {
    await navigator.clipboard.writeText(find("#command").textContent);
    event.target.textContent = "Copied";
    setTimeout(() => { event.target.textContent = "Copy the command"; }, 1500);
  });
  find("#stage-fill").addEventListener("change", (event) => {
    stage.fill = event.target.value;
    forget();
    look();
  });
  find("#side").addEventListener("input", (event) => {
    const grown = event.target.valueAsNumber - stage.side;
    stage.side += grown;
    setRange(find("#side"), stage.side);
    move("hide", stage.hide.x - grown / 2, stage.hide.y - grown / 2);
  });
  find("#back").addEventListener("click", putBack);
  addEventListener("resize", () => { placeHandle("hide"); placeHandle("cut"); });
  makeDraggable("hide");
  makeDraggable("cut");
}

function describe() {
  const { name, part, count, width, height, classes, model, temperature } = about;
  const parts = [`${count.toLocaleString("en")} ${part} images`, `${width} × ${height} px`, `${classes} classes`];
  if (model) parts.push(`model ${model}`, `temperature ${Number(temperature.toPrecision(3))}`);
  document.title = `softaug explore ${name}`;
  find("#title").textContent = `Explore ${name}`;
  find("#lead").textContent = parts.join(" · ");
  const keys = [["curve", "the curve"], ...Object.entries(NAMES)];
  const named = keys.map(([kind, text]) => make("span", {}, make("span", { className: `key ${kind}` }), text));
  find("#legend").append(make("p", { className: "keys" }, ...named), model
    ? "The model’s confidence at each place of a drag, hollow where its class is wrong. Above the curve the model is surer than its targets were at this visibility."
    : "With a trained model, softaug explore DATA RUN, its confidence is drawn too.");
}

async function begin() {
  about = await ask("about", {});
  const { width, height } = about;
  describe();
  makeControls();
  listen();
  for (const frame of document.querySelectorAll(".frame")) frame.style.aspectRatio = `${width} / ${height}`;
  if (Math.max(width, height) >= 128) for (const one of document.querySelectorAll(".images, .stages")) one.classList.add("large");
  stage.side = Math.max(1, Math.round(0.4 * Math.min(width, height)));
  stage.image = -1; // the first of the images that the answer shows
  find("#side").max = Math.min(width, height);
  setRange(find("#side"), stage.side);
  stage.hide = { x: Math.round((width - stage.side) / 2), y: Math.round((height - stage.side) / 2) };
  Object.assign(asked, { k: about.k, flip: about.flip });
  await augment({ ...asked, text: about.text });
  document.documentElement.dataset.ready = "";
}

begin().catch(showFault);
