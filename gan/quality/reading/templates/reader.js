"use strict";
// A blinded reading: shows one image after the other, keeps what is answered, saves it as a table.
const kit = JSON.parse(document.getElementById("kit").textContent);
const byId = (id) => document.getElementById(id);
const FIELDS = ["origin", "confidence", "rating"];
const KEYS = { __proto__: null, r: ["origin", "real"], s: ["origin", "synthetic"],
  g: ["confidence", "1"], f: ["confidence", "2"], c: ["confidence", "3"] };
for (const value of "12345") KEYS[value] = ["rating", value];
const codes = kit.images.map(([code]) => code);
const pixels = new Map(kit.images);
const STORE = `synthdp-reader-${kit.kit}`;

// What is kept: answers by reader and code. Where the browser keeps nothing, memory does.
let kept = { last: "", readers: {} };
let keeps = true;
const keep = () => {
  if (!keeps) return;
  try {
    localStorage.setItem(STORE, JSON.stringify(kept));
  } catch {
    keeps = false;
    byId("not-kept").hidden = false;
  }
};
const recall = () => {
  try {
    const text = localStorage.getItem(STORE);
    const found = text === null ? null : JSON.parse(text);
    if (found !== null && typeof found.readers === "object") kept = found;
  } catch { /* a damaged or forbidden store holds nothing */ }
  keep();
};

// Each reader has an order of their own, made of the name, so that it is the same after a reload.
const mixed = (text) => {
  let state = 0x811c9dc5;
  for (const unit of text) state = Math.imul(state ^ unit.codePointAt(0), 0x01000193) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 4294967296;
  };
};
const shuffled = (items, next) => {
  const order = [...items];
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = Math.floor(next() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
};

let reader = "";
let order = codes;
let place = 0;
let since = 0;
let unsaved = false;
const answers = () => kept.readers[reader];
const answerOf = (code) => answers()[code] ?? {};
const isWhole = (code) => FIELDS.every((field) => answerOf(code)[field]);
const count = () => codes.filter(isWhole).length;
const change = (code, changes) => {
  answers()[code] = { ...answerOf(code), ...changes };
  unsaved = true;
  keep();
};
const noteTime = () => {
  if (!reader || byId("reading").hidden) return;
  const now = performance.now();
  const seconds = Math.min(600, (now - since) / 1000);
  since = now;
  answers()[order[place]] = { ...answerOf(order[place]), seconds: (answerOf(order[place]).seconds ?? 0) + seconds };
};

// How an image is looked at: zoom, position, and the window of grey levels.
const START = { zoom: 1, x: 0, y: 0, width: 255, level: 127.5, inverted: false };
let view = { ...START };
const held = (value, low, high) => Math.min(high, Math.max(low, value));
const look = (changes) => {
  view = { ...view, ...changes };
  view.zoom = held(view.zoom, 1, 8);
  view.width = held(view.width, 5, 510);
  view.level = held(view.level, 0, 255);
  const reach = (view.zoom - 1) * 50;
  view.x = held(view.x, -reach, reach);
  view.y = held(view.y, -reach, reach);
  byId("image").style.transform = `translate(${view.x}%, ${view.y}%) scale(${view.zoom})`;
  const sign = view.inverted ? -1 : 1;
  const slope = (sign * 255) / view.width;
  const intercept = 0.5 - (sign * view.level) / view.width;
  for (const part of document.querySelectorAll("#window feComponentTransfer > *")) {
    part.setAttribute("slope", slope);
    part.setAttribute("intercept", intercept);
  }
  byId("zoom").value = view.zoom;
  byId("width").value = view.width;
  byId("level").value = view.level;
  byId("invert").setAttribute("aria-pressed", view.inverted);
};

const show = (next) => {
  noteTime();
  place = held(next, 0, order.length - 1);
  kept.at = { ...kept.at, [reader]: order[place] };
  since = performance.now();
  const code = order[place];
  byId("image").src = `data:image/png;base64,${pixels.get(code)}`;
  look(START);
  const answer = answerOf(code);
  for (const field of FIELDS)
    for (const input of document.getElementsByName(field)) input.checked = input.value === answer[field];
  byId("end").hidden = true;
  byId("reading").hidden = false;
  tell();
};
const tell = () => {
  const done = count();
  byId("place").textContent = `Image ${place + 1} of ${order.length}`;
  byId("done").textContent = `${done} of ${order.length} answered`;
  byId("bar").value = done;
  byId("back").disabled = place === 0;
  byId("next").textContent = place === order.length - 1 ? "To the end" : "Next";
  [...byId("overview").children].forEach((item, index) => {
    const button = item.firstChild;
    const whole = isWhole(order[index]);
    button.classList.toggle("whole", whole);
    button.setAttribute("aria-label", `Image ${index + 1}, ${whole ? "answered" : "not answered"}`);
    if (index === place) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
};
const goOn = () => {
  if (byId("end").hidden && place < order.length - 1) show(place + 1);
  else finish();
};
const finish = () => {
  noteTime();
  keep();
  const left = order.filter((code) => !isWhole(code));
  byId("reading").hidden = true;
  byId("end").hidden = false;
  byId("end-title").textContent = left.length === 0 ? "Done" : "Not done yet";
  byId("left").textContent = left.length === 0
    ? `All ${order.length} images are answered. Save the file and send it to whoever gave you this page.`
    : `${left.length} of ${order.length} images are not answered in full. Choose one to go on:`;
  byId("left-list").replaceChildren(...left.map((code) => placeButton(order.indexOf(code))));
  byId("end-title").focus();
};
const placeButton = (index) => {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = index + 1;
  button.setAttribute("aria-label", `Image ${index + 1}`);
  button.addEventListener("click", () => show(index));
  item.append(button);
  return item;
};

const begin = (name) => {
  reader = name;
  kept.last = name;
  if (!Object.hasOwn(kept.readers, name)) kept.readers[name] = {};
  order = shuffled(codes, mixed(`${kit.kit} ${name}`));
  byId("overview").replaceChildren(...order.map((_, index) => placeButton(index)));
  byId("bar").max = order.length;
  byId("who").textContent = name;
  byId("start").hidden = true;
  byId("top").hidden = false;
  const at = order.indexOf(kept.at?.[name]);
  show(at < 0 ? 0 : at);
  keep();
};

// The table that is saved: sorted by code, so that it says nothing of an order. Codes and names hold
// letters, digits, spaces, dots, hyphens and underscores alone, so that no cell needs a quote.
const COLUMNS = ["kit", "reader", "code", ...FIELDS, "seconds"];
const table = () => {
  const rows = [...codes].sort().map((code) => {
    const answer = answerOf(code);
    const seconds = answer.seconds === undefined ? "" : answer.seconds.toFixed(1);
    return [kit.kit, reader, code, ...FIELDS.map((field) => answer[field] ?? ""), seconds];
  });
  return [COLUMNS, ...rows].map((cells) => `${cells.join(",")}\n`).join("");
};
const save = () => {
  noteTime();
  keep();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  link.download = `reader-${kit.kit}-${reader.replace(/[^A-Za-z0-9_-]+/g, "-")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  unsaved = false;
};
const takeBack = (text) => {
  const lines = text.replace(/^\ufeff/, "").split(/\r?\n/).filter((line) => line !== "");
  const comma = lines.length > 0 && lines[0].includes(";") ? ";" : ",";
  const cells = lines.map((line) => line.split(comma));
  if (cells.length < 2 || cells[0].join() !== COLUMNS.join()) return "This is no file that this page saved.";
  if (cells.slice(1).some((row) => row[0] !== kit.kit)) return "This file was saved by another page.";
  const name = cells[1][1];
  if (!NAME.test(name) || cells.slice(1).some((row) => row[1] !== name || !pixels.has(row[2])))
    return "This file was changed, and can't be taken back.";
  const found = {};
  for (const [, , code, origin, confidence, rating, seconds] of cells.slice(1)) {
    const answer = { origin, confidence, rating, seconds: Number.parseFloat(seconds) || 0 };
    for (const field of FIELDS) if (!CHOICES[field].includes(answer[field])) delete answer[field];
    found[code] = answer;
  }
  kept.readers[name] = found;
  begin(name);
  return "";
};
const NAME = /^[A-Za-z0-9][A-Za-z0-9_. -]{0,39}$/;
const CHOICES = {};
for (const field of FIELDS) CHOICES[field] = [...document.getElementsByName(field)].map((input) => input.value);

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("name").value.trim();
  const isName = NAME.test(name);
  byId("name").setAttribute("aria-invalid", !isName);
  byId("name-wrong").hidden = isName;
  if (isName) begin(name);
  else byId("name").focus();
});
byId("file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file === undefined) return;
  const wrong = takeBack(await file.text());
  byId("file-wrong").textContent = wrong;
  event.target.value = "";
});
for (const field of FIELDS)
  for (const input of document.getElementsByName(field))
    input.addEventListener("change", () => {
      change(order[place], { [field]: input.value });
      tell();
    });
byId("back").addEventListener("click", () => show(place - 1));
byId("next").addEventListener("click", goOn);
byId("return").addEventListener("click", () => show(place));
byId("other").addEventListener("click", () => {
  noteTime();
  kept.last = reader = "";
  keep();
  byId("top").hidden = byId("reading").hidden = byId("end").hidden = true;
  byId("start").hidden = false;
  byId("name").focus();
});
for (const button of document.querySelectorAll(".save")) button.addEventListener("click", save);
for (const name of ["zoom", "width", "level"])
  byId(name).addEventListener("input", (event) => look({ [name]: Number(event.target.value) }));
byId("invert").addEventListener("click", () => look({ inverted: !view.inverted }));
byId("reset").addEventListener("click", () => look(START));

const viewer = byId("viewer");
viewer.addEventListener("wheel", (event) => {
  event.preventDefault();
  look({ zoom: view.zoom * Math.exp(-event.deltaY / 400) });
}, { passive: false });
viewer.addEventListener("contextmenu", (event) => event.preventDefault());
viewer.addEventListener("pointerdown", (event) => {
  viewer.setPointerCapture(event.pointerId);
  event.preventDefault();
});
viewer.addEventListener("pointermove", (event) => {
  if (!viewer.hasPointerCapture(event.pointerId)) return;
  const side = viewer.clientWidth;
  if (event.buttons & 2 || event.shiftKey)
    look({ width: view.width + (event.movementX / side) * 510, level: view.level + (event.movementY / side) * 255 });
  else look({ x: view.x + (event.movementX / side) * 100, y: view.y + (event.movementY / side) * 100 });
});

document.addEventListener("keydown", (event) => {
  const on = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || byId("top").hidden) return;
  if (on.matches("input[type=text], input[type=file]")) return;
  const key = event.key.toLowerCase();
  if (key === "enter" && on.matches("button, summary, a")) return;
  if (byId("reading").hidden) {
    if (key === "b") show(place);
    return;
  }
  const isView = on === viewer && key.startsWith("arrow");
  if (KEYS[key]) {
    const [field, value] = KEYS[key];
    change(order[place], { [field]: value });
    for (const input of document.getElementsByName(field)) input.checked = input.value === value;
    tell();
  } else if (key === "n" || key === "enter") goOn();
  else if (key === "b") show(place - 1);
  else if (key === "+" || key === "=") look({ zoom: view.zoom * 1.25 });
  else if (key === "-") look({ zoom: view.zoom / 1.25 });
  else if (key === "0") look(START);
  else if (key === "i") look({ inverted: !view.inverted });
  else if (isView && event.shiftKey)
    look({ width: view.width + ({ arrowleft: -15, arrowright: 15 }[key] ?? 0),
      level: view.level + ({ arrowup: -8, arrowdown: 8 }[key] ?? 0) });
  else if (isView)
    look({ x: view.x + ({ arrowleft: -10, arrowright: 10 }[key] ?? 0),
      y: view.y + ({ arrowup: -10, arrowdown: 10 }[key] ?? 0) });
  else return;
  event.preventDefault();
});
addEventListener("beforeunload", (event) => {
  if (reader) noteTime();
  keep();
  if (unsaved && !keeps) event.preventDefault();
});

recall();
if (kept.last && Object.hasOwn(kept.readers, kept.last)) begin(kept.last);
else byId("name").focus();
