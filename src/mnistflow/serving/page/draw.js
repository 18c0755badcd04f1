// The page to draw on: strokes or a picture go to POST /predict, and what comes back is shown, a column for each network.

const SIDE = 560;          // of the sheet, in its own pixels
const PAUSE = 80;          // milliseconds from the end of a stroke to the request
const STEP = 14;           // pixels that an arrow key moves the pen
const [sheet, frame, hint, boxes, error, said, columns, choice, undo, clear, file, width] =
  ["sheet", "frame", "hint", "boxes", "error", "said", "columns", "choice", "undo", "clear", "file", "width"]
    .map(id => document.getElementById(id));
const pen = { x: SIDE / 2, y: SIDE / 3, shown: false };
const past = [{ strokes: [], picture: null }];  // what was on the sheet, the last one is what is there
let stroke = null;         // the one that is being drawn
let models = [];
let answers = [];          // the last answer, a part for each network
let chosen = 0;            // the digit, from the left, whose probabilities and maps are shown

// ---------------------------------------------------------------------------------------------------------------------
// The sheet

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function draw(context, strokes, ink) {
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = context.fillStyle = ink;
  for (const points of strokes) {
    points.forEach((point, index) => {
      const before = points[Math.max(0, index - 1)];
      context.lineWidth = point.width;
      context.beginPath();
      context.moveTo(before.x, before.y);
      context.lineTo(point.x, point.y + (index ? 0 : 0.01));  // a single point is a dot
      context.stroke();
    });
  }
}

// Where a picture is on the sheet: as large as possible, in the middle.
function placed(picture) {
  const scale = Math.min(SIDE / picture.width, SIDE / picture.height);
  const [w, h] = [picture.width * scale, picture.height * scale];
  return { x: (SIDE - w) / 2, y: (SIDE - h) / 2, w, h };
}

function show() {
  const now = past.at(-1);
  const strokes = stroke ? [...now.strokes, stroke] : now.strokes;
  const context = sheet.getContext("2d");
  context.clearRect(0, 0, SIDE, SIDE);
  if (now.picture && !stroke) {
    const { x, y, w, h } = placed(now.picture.bitmap);
    context.drawImage(now.picture.bitmap, x, y, w, h);
  }
  draw(context, strokes, colour("--ink"));
  if (pen.shown && document.activeElement === sheet) {
    context.lineWidth = 3;
    context.strokeStyle = colour("--accent");
    context.beginPath();
    context.arc(pen.x, pen.y, Math.max(8, width.value / 2), 0, 7);
    context.moveTo(pen.x - 4, pen.y); context.lineTo(pen.x + 4, pen.y);
    context.moveTo(pen.x, pen.y - 4); context.lineTo(pen.x, pen.y + 4);
    context.stroke();
  }
  const empty = !strokes.length && !now.picture;
  hint.hidden = !empty || pen.shown;
  undo.disabled = past.length === 1;
  clear.disabled = empty;
}

// Always dark on light, whatever the colour scheme of the page, so that the same strokes give the same image.
function drawn(strokes) {
  const paper = document.createElement("canvas");
  paper.width = paper.height = SIDE;
  const context = paper.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, SIDE, SIDE);
  draw(context, strokes, "black");
  return new Promise(done => paper.toBlob(done, "image/png"));
}

function become(state) {
  past.push(state);
  if (past.length > 200) past.splice(1, 1);
  chosen = 0;
  changed();
}

function finish() {
  if (!stroke) return;
  const now = past.at(-1);
  const points = stroke;
  stroke = null;
  become({ strokes: [...(now.picture ? [] : now.strokes), points], picture: null });
}

function clearAll() {
  stroke = null;
  if (past.at(-1).strokes.length || past.at(-1).picture) become({ strokes: [], picture: null });
  else show();
}

function undoLast() {
  if (stroke) stroke = null;
  else if (past.length > 1) past.pop();
  chosen = 0;
  changed();
}

function point(event) {
  const area = sheet.getBoundingClientRect();
  const pressure = event.pointerType === "pen" && event.pressure ? 0.4 + 1.2 * event.pressure : 1;
  return {
    x: (event.clientX - area.left) / area.width * SIDE,
    y: (event.clientY - area.top) / area.height * SIDE,
    width: width.value * pressure,
  };
}

sheet.addEventListener("pointerdown", event => {
  if (event.button || !event.isPrimary) return;
  sheet.setPointerCapture(event.pointerId);
  pen.shown = false;
  clearTimeout(timer);
  if (stroke) finish();
  stroke = [point(event)];
  boxes.replaceChildren();
  show();
});
sheet.addEventListener("pointermove", event => {
  if (!stroke || !event.isPrimary || !sheet.hasPointerCapture(event.pointerId)) return;
  const parts = event.getCoalescedEvents?.() ?? [];
  stroke.push(...(parts.length ? parts : [event]).map(point));
  show();
});
for (const name of ["pointerup", "pointercancel"]) {
  sheet.addEventListener(name, event => { if (event.isPrimary && !pen.shown) finish(); });
}

const down = new Set();
const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
sheet.addEventListener("keydown", event => {
  if (event.key in WAYS) {
    down.add(event.key);
    const step = event.shiftKey ? STEP / 4 : STEP;
    for (const key of down) {
      pen.x = Math.min(SIDE, Math.max(0, pen.x + WAYS[key][0] * step));
      pen.y = Math.min(SIDE, Math.max(0, pen.y + WAYS[key][1] * step));
    }
    if (stroke) stroke.push({ x: pen.x, y: pen.y, width: Number(width.value) });
  } else if (event.key === " ") {
    if (stroke) finish();
    else stroke = [{ x: pen.x, y: pen.y, width: Number(width.value) }];
    tell(stroke ? "The pen is down." : "The pen is up.");
  } else if (event.key === "Delete" || event.key === "Backspace") {
    clearAll();
  } else {
    return;
  }
  event.preventDefault();
  pen.shown = true;
  show();
});
sheet.addEventListener("keyup", event => down.delete(event.key));
sheet.addEventListener("focus", () => { pen.shown = sheet.matches(":focus-visible"); show(); });
sheet.addEventListener("blur", () => { down.clear(); finish(); pen.shown = false; show(); });
document.addEventListener("keydown", event => {
  if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); undoLast(); }
});
undo.addEventListener("click", undoLast);
clear.addEventListener("click", clearAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { show(); fill(); });

// ---------------------------------------------------------------------------------------------------------------------
// Pictures

async function take(blob) {
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    // The browser cannot show it; the server may be able to read it, or says why not.
    bitmap = document.createElement("canvas");
    bitmap.width = bitmap.height = 1;
  }
  stroke = null;
  become({ strokes: [], picture: { blob, bitmap } });
}

file.addEventListener("change", () => { if (file.files[0]) take(file.files[0]); file.value = ""; });
document.addEventListener("paste", event => {
  const picture = [...event.clipboardData.files][0];
  if (picture) { event.preventDefault(); take(picture); }
});
document.addEventListener("dragover", event => { event.preventDefault(); document.body.classList.add("dragged"); });
document.addEventListener("dragleave", event => { if (!event.relatedTarget) document.body.classList.remove("dragged"); });
document.addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("dragged");
  const picture = [...event.dataTransfer.files][0];
  if (picture) take(picture);
});

// ---------------------------------------------------------------------------------------------------------------------
// Asking

let timer = 0;
let asked = 0;             // requests so far: only the answer to the last one is shown
let abort = new AbortController();

function changed(pause = PAUSE) {
  show();
  clearTimeout(timer);
  asked += 1;
  abort.abort();
  const now = past.at(-1);
  if (!now.strokes.length && !now.picture || !wanted().length) {
    answers = [];
    problem("");
    fill();
    return;
  }
  document.body.dataset.state = "asking";
  timer = setTimeout(ask, pause);
}

async function ask() {
  const mine = asked;
  const now = past.at(-1);
  abort = new AbortController();
  const late = setTimeout(() => columns.classList.add("waiting"), 300);
  let found = [];
  let line = "";
  try {
    const body = now.picture ? now.picture.blob : await drawn(now.strokes);
    if (mine !== asked) return;
    const query = new URLSearchParams([["explain", "true"], ["maps", chosen], ...wanted().map(name => ["model", name])]);
    const kind = body.type.startsWith("image/") ? body.type : "application/octet-stream";
    const response = await fetch(`predict?${query}`,
      { method: "POST", body, headers: { "content-type": kind }, signal: abort.signal });
    const answer = await response.json();
    if (response.ok) found = answer.answers.map(each => ({ model: each.model, picture: each.pictures[0] }));
    else line = answer.error;
  } catch {
    line = "The server does not answer; `mnistflow serve` may have ended.";
  } finally {
    clearTimeout(late);
  }
  if (mine !== asked) return;
  answers = found;
  problem(line);
  fill();
}

function problem(line) {
  error.textContent = line;
  error.hidden = !line;
}

let last = "";
function tell(line) {
  if (line !== last) said.textContent = last = line;
}

// ---------------------------------------------------------------------------------------------------------------------
// Showing

function element(tag, name, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  return made;
}

function percent(share) {
  return share > 0.9995 ? "100\u00a0%" : share < 0.0005 ? "0\u00a0%" : `${(100 * share).toFixed(1)}\u00a0%`;
}

const VERDICTS = { unsure: "unsure", none: "no digit" };

function shown(digit) {
  return digit.verdict === "none" ? "?" : digit.label;
}

function wanted() {
  return [...choice.querySelectorAll("input:checked")].map(box => box.value);
}

// A column for each network that is asked, its bars at nothing.
function build() {
  columns.replaceChildren(...models.filter(model => wanted().includes(model.name)).map(model => {
    const column = element("article", "column");
    column.dataset.model = model.name;
    const accuracy = model.test_accuracy === null ? "" : `${(100 * model.test_accuracy).toFixed(2)} % on test images`;
    const bars = element("ol", "bars");
    for (const name of model.classes) {
      const bar = element("li");
      bar.dataset.label = name;
      const track = element("span", "track");
      track.append(element("div", "fill"));
      bar.append(element("span", "name", name), track, element("span", "value"));
      bars.append(bar);
    }
    column.append(element("h2", "", model.name), element("p", "grey", accuracy), element("div", "digits"), bars,
      element("div", "inside"));
    return column;
  }));
  columns.classList.toggle("one", columns.children.length === 1);
}

function fill() {
  const now = past.at(-1);
  columns.classList.remove("waiting");
  boxes.replaceChildren();
  for (const column of columns.children) {
    const answer = answers.find(each => each.model.name === column.dataset.model);
    const digits = answer?.picture.digits ?? [];
    const digit = digits[Math.min(chosen, digits.length - 1)];
    const row = column.querySelector(".digits");
    row.classList.toggle("many", digits.length > 1);
    row.replaceChildren(...digits.map((each, index) => labelled(each, index, digits.length)));
    if (answer && !digits.length) row.append(element("p", "none", "Nothing is written there."));
    for (const bar of column.querySelectorAll(".bars li")) {
      const share = digit ? digit.probabilities[bar.dataset.label] : 0;
      bar.classList.toggle("first", bar.dataset.label === digit?.label);
      bar.querySelector(".fill").style.transform = `scaleX(${share})`;
      bar.querySelector(".value").textContent = digit ? percent(share) : "";
    }
    column.querySelector(".inside").replaceChildren(...(digit ? inside(digit, answer.model) : []));
  }
  if (answers.length) {
    outline(answers[0].picture, now);
    tell(answers.map(({ model, picture }) => {
      const read = picture.digits.map(digit => digit.verdict === "none" ? VERDICTS.none : `${digit.label}, ` +
        `${digit.verdict === "unsure" ? "unsure, " : ""}${percent(digit.probability)}; ` +
        `or ${digit.runners_up.map(each => each.label).join(", ")}`);
      return `${model.name} reads ${read.join(", then ") || "nothing"}.`;
    }).join(" "));
  }
  document.body.dataset.state = "shown";
}

function labelled(digit, index, count) {
  const made = element("button", "digit");
  made.type = "button";
  made.append(element("b", "", shown(digit)), element("span", "", percent(digit.probability)));
  if (digit.verdict !== "sure") made.append(element("i", "", VERDICTS[digit.verdict]));
  if (digit.verdict === "none") made.title = `most like ${digit.label}`;
  made.disabled = count === 1;
  made.setAttribute("aria-pressed", String(index === chosen));
  made.addEventListener("click", () => { chosen = index; changed(0); });
  return made;
}

// What a network saw, and what its layers made of it.
function inside(digit, model) {
  const [height, across] = model.image_size;
  const found = [figure("seen", `Network input, ${height}\u00a0×\u00a0${across}`, [digit.seen], 1)];
  for (const layer of digit.maps ?? []) {
    const count = layer.channels === 1 ? "1 map" : `${layer.channels} maps`;
    found.push(figure("maps", `${layer.name}: ${count} of ${layer.height}\u00a0×\u00a0${layer.width}`, layer.values,
      Math.min(columns.firstChild.clientWidth < 200 ? 4 : 8, layer.channels)));
  }
  if (!digit.maps?.length) found.push(element("p", "grey", `No convolutions: it takes all ${height * across} pixels at once.`));
  return found;
}

// Images side by side; colours range from the track colour (0) to the ink or accent colour (255).
function figure(name, caption, images, perRow) {
  const [h, w] = [images[0].length, images[0][0].length];
  const gap = images.length > 1 ? Math.max(1, Math.round(w / 14)) : 0;
  const picture = document.createElement("canvas");
  picture.width = perRow * (w + gap) - gap;
  picture.height = Math.ceil(images.length / perRow) * (h + gap) - gap;
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", caption);
  const context = picture.getContext("2d");
  const [from, to] = [rgb(colour("--track")), rgb(colour(name === "seen" ? "--ink" : "--accent"))];
  images.forEach((image, index) => {
    const pixels = context.createImageData(w, h);
    image.flat().forEach((value, place) => {
      for (let part = 0; part < 3; part++) pixels.data[4 * place + part] = from[part] + (to[part] - from[part]) * value / 255;
      pixels.data[4 * place + 3] = 255;
    });
    context.putImageData(pixels, index % perRow * (w + gap), Math.floor(index / perRow) * (h + gap));
  });
  const made = element("figure", name);
  made.append(element("figcaption", "", caption), picture);
  return made;
}

function rgb(hex) {
  return [1, 3, 5].map(start => parseInt(hex.slice(start, start + 2), 16));
}

// Boxes around the digits, where there are several or a picture is shown.
function outline(picture, now) {
  if (picture.digits.length < 2 && !now.picture) return;
  const area = placed(picture);
  picture.digits.forEach((digit, index) => {
    const made = element("div", index === chosen ? "box chosen" : "box");
    const scale = area.w / picture.width;
    const share = value => `${100 * value / SIDE}%`;
    Object.assign(made.style, {
      left: share(area.x + digit.box.left * scale - 4), top: share(area.y + digit.box.top * scale - 4),
      width: share(digit.box.width * scale + 8), height: share(digit.box.height * scale + 8),
    });
    boxes.append(made);
  });
}

async function start() {
  show();
  try {
    models = (await (await fetch("models")).json()).models;
  } catch {
    problem("The server does not answer; `mnistflow serve` may have ended.");
    return;
  }
  models.forEach((model, index) => {
    const label = element("label", "model");
    const box = element("input");
    box.type = "checkbox";
    box.value = model.name;
    box.checked = index < 2;
    box.addEventListener("change", () => { build(); changed(0); });
    label.append(box, model.name);
    choice.append(label);
  });
  choice.hidden = models.length < 2;
  build();
  changed(0);
}

start();
