"use strict";
// Draws the page's pictures and tables from the tidy table in `report-data`, for what the pickers choose.
const data = JSON.parse(document.getElementById("report-data").textContent);
const marks = { better: "†", worse: "‡", "": "" };
// Distinct on white and on black and for the colour-blind (Okabe & Ito); lines differ in their dashes too.
const colours = ["#0f7fc4", "#d9661f", "#0a9a72", "#c56a9f", "#b08a00", "#4fa9d8", "#7d6bd0", "#c9463d", "#5f8f2f", "#8d7460"];
const dashes = ["", "8 4", "8 3 2 3", "2 3"];
const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "line", "rect", "circle", "polyline", "polygon", "text"].includes(tag);
  const node = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// ---- hovering: any element with data-tip shows it

const tip = make("div", { id: "tip", role: "status", hidden: "" });
document.body.append(tip);
function showTip(text, x, y) {
  tip.textContent = text;
  tip.hidden = !text;
  if (!text) return;
  const width = document.documentElement.clientWidth;
  tip.style.left = `${Math.max(8, Math.min(x + 12, width - tip.offsetWidth - 8))}px`;
  tip.style.top = `${y + tip.offsetHeight + 28 > window.innerHeight ? y - tip.offsetHeight - 12 : y + 16}px`;
}
for (const kind of ["pointermove", "pointerdown"])
  document.addEventListener(kind, (event) => {
    const target = event.target.closest?.("[data-tip]");
    showTip(target ? target.dataset.tip : "", event.clientX, event.clientY);
  });
document.addEventListener("focusin", (event) => {
  const box = event.target.getBoundingClientRect();
  if (event.target.dataset.tip) showTip(event.target.dataset.tip, box.left, box.bottom);
});
document.addEventListener("keydown", (event) => event.key === "Escape" && showTip(""));

function tipOf(line) {
  const where = line.slice ? `${data.facts[line.fact]}: ${line.slice}, ${line.sample}` : "";
  const titles = { ...data.headings.value, ...data.headings.difference };
  const facts = Object.keys(titles).filter((name) => name in line.texts).map((name) => `${titles[name]}: ${line.texts[name]}`);
  return [line.row, titleOf(line), where, ...facts].filter(Boolean).join("\n");
}

// ---- sorting: every header of a table of class "sortable" is a button

function sortTable(header) {
  const table = header.closest("table");
  const ascending = header.getAttribute("aria-sort") === "descending";
  const place = Number(header.dataset.place);
  const key = (row) => {
    const cell = row.cells[place];
    const value = cell.dataset.value ?? cell.textContent.trim();
    return value === "" || value === "–" ? null : isNaN(value) ? value.toLowerCase() : Number(value);
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : ascending ? compare(a, b) : compare(b, a)));
  for (const other of table.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  table.tBodies[0].append(...rows.map(([, row]) => row));
}
function makeSortable(table) {
  for (const header of table.querySelectorAll("thead [data-place]")) {
    header.setAttribute("aria-sort", "none");
    const button = make("button", { type: "button" }, ...header.childNodes);
    button.addEventListener("click", () => sortTable(header));
    header.append(button);
  }
}

// ---- picking lines of the tidy table

const titleOf = ({ candidates, metric }) => data.columns.find((column) => column[0] === candidates && column[1] === metric)[2];
const picked = () => ({ candidates: byId("candidates").value, metric: byId("metric").value });
const linesOf = (wanted) => data.lines.filter((line) => Object.entries(wanted).every(([name, value]) => line[name] === value));

function fillPickers() {
  const option = (value, text) => make("option", { value }, text);
  const fillMetrics = () => {
    const before = byId("metric").value;
    const own = data.columns.filter((column) => column[0] === byId("candidates").value);
    byId("metric").replaceChildren(...own.map((column) => option(column[1], column[3])));
    byId("metric").value = own.some((column) => column[1] === before) ? before : own.at(-1)[1];
  };
  byId("candidates").append(...[...new Set(data.columns.map((column) => column[0]))].map((name) => option(name, name)));
  if (data.principal) byId("candidates").value = data.principal[0];
  fillMetrics();
  if (data.principal) byId("metric").value = data.principal[1];
  byId("slice").append(option("[]", "all targets"));
  for (const [fact, title] of Object.entries(data.facts)) {
    const names = new Set(data.lines.filter((line) => line.fact === fact).map((line) => line.slice));
    const group = make("optgroup", { label: title }, ...[...names].map((name) => option(JSON.stringify([fact, name]), name)));
    if (names.size) byId("slice").append(group);
  }
  byId("candidates").addEventListener("change", fillMetrics);
  byId("pickers").addEventListener("change", draw);
}

// ---- pictures of rows: names stand above their tracks, so no line runs through them

function ticks(low, high, most = 5) {
  const raw = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + 1e-9 * step; at += step) found.push(Math.abs(at) < step / 1e6 ? 0 : at);
  return found;
}
const written = (value) => String(Number(value.toPrecision(6)));

function drawRows(place, lines, names, isDifference) {
  const [value, from, to] = names;
  const ends = lines.flatMap((line) => [line[value], line[from], line[to], 0]).filter((end) => end !== undefined);
  let [low, high] = [Math.min(...ends), Math.max(...ends)];
  if (high === low) high = low + 1;
  const padding = 0.04 * (high - low);
  low -= isDifference || low < 0 ? padding : 0;
  high += padding;
  const at = (number) => `${(100 * (number - low)) / (high - low)}%`;
  const line = (a, b, y1, y2, kind) => make("line", { x1: at(a), x2: at(b), y1, y2, class: kind });
  const grid = ticks(low, high);
  const rows = lines.map((each) => {
    const isBaseline = each.row === data.baseline;
    const side = isBaseline ? "base" : isDifference ? (each[value] >= 0 ? "up" : "down") : each.verdict === "worse" ? "down" : "up";
    const kind = `${side}${each.verdict || isBaseline ? "" : " pale"}`;
    const track = make("svg", { class: "track", "aria-hidden": "true" }, ...grid.map((tick) => line(tick, tick, 0, 24, "grid")));
    if (!isDifference) track.append(make("rect", { x: at(Math.min(0, each[value])), y: 5, width: `${(100 * Math.abs(each[value])) / (high - low)}%`, height: 14, class: kind }));
    track.append(line(0, 0, 0, 24, "zero"));
    if (each[from] !== undefined) track.append(line(each[from], each[to], 12, 12, `interval ${isDifference ? side : ""}`));
    if (isDifference) track.append(make("circle", { cx: at(each[value]), cy: 12, r: 5, class: `point ${kind}` }));
    return make("div", { class: "bar", tabindex: 0, "data-row": each.row, "data-tip": tipOf(each) },
      make("div", { class: "name" }, each.row), track, make("div", { class: "text" }, each.texts[value] + marks[each.verdict]));
  });
  const axis = make("svg", { class: "track axis", "aria-hidden": "true" }, ...grid.map((tick) =>
    make("text", { x: at(tick), y: 12, "text-anchor": "middle" }, isDifference && tick > 0 ? `+${written(tick)}` : written(tick).replace("-", "−"))));
  place.replaceChildren(...rows, make("div", { class: "bar" }, axis));
}

// ---- pictures of lines

function drawLines(place, series, { x: xTitle, y: yTitle, xTicks, log }) {
  const width = Math.max(260, place.clientWidth), height = 280, [left, right, top, bottom] = [52, 12, 10, 40];
  const scale = log ? Math.log2 : (value) => value;
  const points = series.flatMap((one) => one.points);
  const range = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return high > low ? [low, high] : [low - 0.5, high + 0.5];
  };
  const [x0, x1] = range(points.map((point) => scale(point.x)));
  let [y0, y1] = range(points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]));
  [y0, y1] = [y0 - 0.06 * (y1 - y0), y1 + 0.06 * (y1 - y0)];
  const atX = (value) => left + ((width - left - right) * (scale(value) - x0)) / (x1 - x0);
  const atY = (value) => top + ((height - top - bottom) * (y1 - value)) / (y1 - y0);
  const picture = make("svg", { class: "lines", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${yTitle} over ${xTitle}` });
  for (const tick of ticks(y0, y1))
    picture.append(make("line", { x1: left, x2: width - right, y1: atY(tick), y2: atY(tick), class: "grid" }),
      make("text", { x: left - 6, y: atY(tick) + 4, "text-anchor": "end" }, written(tick)));
  for (const tick of xTicks ?? ticks(x0, x1, Math.min(6, width / 70)).filter(Number.isInteger))
    picture.append(make("text", { x: atX(tick), y: height - bottom + 18, "text-anchor": "middle" }, written(tick)));
  picture.append(make("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xTitle));
  for (const one of series) {
    const path = (ys) => one.points.map((point, number) => `${atX(point.x)},${atY(ys(point))}`);
    if (one.points.some((point) => point.low !== undefined))
      picture.append(make("polygon", { points: [...path((p) => p.low), ...path((p) => p.high).reverse()].join(" "), fill: one.colour, "fill-opacity": 0.18 }));
    picture.append(make("polyline", { points: path((p) => p.y).join(" "), stroke: one.colour, "stroke-dasharray": one.dash, class: "curve" }));
    if (one.points.length === 1 || one.dots)
      for (const point of one.points) picture.append(make("circle", { cx: atX(point.x), cy: atY(point.y), r: 4, fill: one.colour }));
  }
  const marker = make("circle", { r: 5, class: "marker", visibility: "hidden" });
  picture.append(marker);
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const nearest = points.map((point) => [Math.hypot(atX(point.x) - x, atY(point.y) - y), point]).sort(([a], [b]) => a - b)[0][1];
    for (const [name, value] of Object.entries({ cx: atX(nearest.x), cy: atY(nearest.y), visibility: "visible" })) marker.setAttribute(name, value);
    picture.dataset.tip = nearest.tip;
  });
  picture.addEventListener("pointerleave", () => marker.setAttribute("visibility", "hidden"));
  const keys = [...new Map(series.map((one) => [one.name, one])).values()].map((one) =>
    make("span", {}, make("svg", { viewBox: "0 0 28 8", "aria-hidden": "true" },
      make("line", { x1: 1, x2: 27, y1: 4, y2: 4, stroke: one.colour, "stroke-width": 3, "stroke-dasharray": one.dash })), one.name));
  place.replaceChildren(picture, make("div", { class: "keys" }, ...keys));
}

function styleOf(row) {
  const place = data.rows.indexOf(row);
  return row === data.baseline ? { colour: "#8791a0", dash: "" }
    : { colour: colours[place % colours.length], dash: dashes[Math.floor(place / colours.length) % dashes.length] };
}

function drawCurves() {
  if (!data.curves.length) return;
  const series = data.curves.map(({ row, seed, points }) => ({
    name: row, ...styleOf(row),
    points: points.map(([x, y]) => ({ x, y, tip: `${row}\nseed ${seed}, epoch ${x}\n${data.curve_metric}: ${y.toFixed(4)}` })),
  }));
  drawLines(byId("curves-picture"), series, { x: "epoch", y: data.curve_metric });
}

function drawSweep() {
  const values = data.sweep.values, lines = linesOf({ ...picked(), slice: "", context: "" });
  const swept = lines.filter((line) => line.row in values).sort((a, b) => values[a.row] - values[b.row]);
  if (!byId("sweep-picture") || !swept.length) return;
  const xTicks = [...new Set(swept.map((line) => values[line.row]))];
  const point = (line, x) => ({ x, y: line.mean, tip: tipOf(line) });
  const own = { name: data.sweep.key, colour: colours[0], dots: true, points: swept.map((line) => ({ ...point(line, values[line.row]), low: line.ci_low, high: line.ci_high })) };
  const levels = lines.filter((line) => !(line.row in values)).map((line) => ({
    name: line.row, ...styleOf(line.row), dash: "8 4", points: [xTicks[0], xTicks.at(-1)].map((x) => point(line, x)),
  }));
  const log = xTicks[0] > 0 && xTicks.at(-1) >= 8 * xTicks[0]; // such as 4, 8, 16: else the small ones would touch
  drawLines(byId("sweep-picture"), [own, ...levels], { x: data.sweep.key, y: titleOf(picked()), xTicks, log });
}

// ---- tables

function drawTable(place, headers, rows) {
  const head = headers.map((title, number) => make("th", { scope: "col", "data-place": number }, title));
  const body = rows.map(({ row, cells }) => make("tr", row === data.baseline ? { class: "baseline" } : {}, make("th", { scope: "row" }, row),
    ...cells.map(({ text, value, small, ...attributes }) => {
      const cell = make("td", { "data-value": value ?? "", ...attributes }, text ?? "–");
      if (small) cell.append(make("br"), make("small", {}, small));
      return cell;
    })));
  const table = make("table", { class: "sortable" }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  makeSortable(table);
  place.replaceChildren(table);
}
const cellOf = (line, name) => ({ text: line?.texts[name], value: line?.[name] });

function drawSlices() {
  const place = byId("slices-tables");
  const lines = linesOf({ ...picked(), context: "" }).filter((line) => line.slice);
  if (!place) return;
  const largest = Math.max(...lines.map((line) => Math.abs(line.difference ?? 0)));
  place.replaceChildren(...Object.entries(data.facts).flatMap(([fact, title]) => {
    const own = lines.filter((line) => line.fact === fact);
    const slices = [...new Map(own.map((line) => [line.slice, line.sample]))];
    const rows = [...new Set(own.map((line) => line.row))].map((row) => ({ row, cells: slices.map(([slice]) => {
      const line = own.find((each) => each.row === row && each.slice === slice);
      if (line.difference === undefined) return { ...cellOf(line, "mean"), class: "value", "data-tip": tipOf(line) };
      const isClear = line.difference_ci_low > 0 || line.difference_ci_high < 0;
      // What may well be chance stays pale, however large.
      const shade = largest ? ((isClear ? 100 : 35) * Math.abs(line.difference)) / largest : 0;
      return { ...cellOf(line, "difference"), small: line.texts.difference_ci_low, "data-tip": tipOf(line),
        class: `${line.difference > 0 ? "up" : "down"}${isClear ? " clear" : ""}`, style: `--shade: ${shade.toFixed(0)}` };
    }) }));
    if (!rows.length) return [];
    const scroll = make("div", { class: "scroll" });
    drawTable(scroll, ["model", ...slices.map(([name, sample]) => `${name} (${sample})`)], rows);
    return [make("h3", {}, title[0].toUpperCase() + title.slice(1)), scroll];
  }));
}

function drawContexts() {
  if (!byId("context-table")) return;
  const lines = linesOf(picked()).filter((line) => line.context);
  const columns = Object.keys(data.headings.context).flatMap((name) => data.contexts.map((context) => [name, context]))
    .filter(([name, context]) => name !== "kept" || context !== data.contexts[0]);
  const rows = [...new Set(lines.map((line) => line.row))].map((row) => ({ row, cells: columns.map(([name, context]) => {
    const line = lines.find((each) => each.row === row && each.context === context);
    return { ...cellOf(line, name), small: name === "difference" ? line?.texts.difference_ci_low : undefined };
  }) }));
  drawTable(byId("context-table"), ["model", ...columns.map(([name, context]) => `${data.headings.context[name]} ${context}`)], rows);
}

function drawDifferences() {
  const [fact, slice] = JSON.parse(byId("slice").value);
  const lines = linesOf({ ...picked(), fact: fact ?? "", slice: slice ?? "", context: "" });
  const compared = lines.filter((line) => line.difference !== undefined);
  for (const node of document.querySelectorAll("[data-title]"))
    node.textContent = `${node.dataset.title}${titleOf(picked())}${slice && node.closest(".panels") ? `; ${data.facts[fact]}: ${slice}` : ""}`;
  byId("differences").hidden = !compared.length;
  drawRows(byId("differences-picture"), compared, ["difference", "difference_ci_low", "difference_ci_high"], true);
  drawRows(byId("values-picture"), lines, ["mean", "ci_low", "ci_high"], false);
  const titles = { ...data.headings.value, ...data.headings.difference };
  const names = Object.keys(titles).filter((name) => lines.some((line) => name in line.texts));
  drawTable(byId("figures"), ["model", ...names.map((name) => titles[name])],
    lines.map((line) => ({ row: line.row, cells: names.map((name) => cellOf(line, name)) })));
}

function draw() {
  drawDifferences();
  drawSweep();
  drawSlices();
  drawContexts();
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
if (data.columns.length) {
  fillPickers();
  draw();
  drawCurves();
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (width === window.innerWidth) return;
    width = window.innerWidth;
    drawSweep();
    drawCurves();
  });
}
