"use strict";
// Draws the page from the study's JSON, which the page holds in the element #data.

const study = JSON.parse(document.getElementById("data").textContent);
const kColours = 8, kSvg = "http://www.w3.org/2000/svg";

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) if (value != null) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function shape(tag, attributes = {}, text = null) {
  const node = document.createElementNS(kSvg, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return node;
}

const colour = (i) => `var(--s${i % kColours})`;
const isNumber = (x) => typeof x === "number" && Number.isFinite(x);
const withUnit = (text, unit) => unit ? `${text} ${unit}` : text;

function printed(value, column) {
  if (value == null) return "–";
  if (typeof value === "string") return value;
  const text = value.toFixed(column.digits || 0);
  return column.kind === "difference" && !text.startsWith("-") ? "+" + text : text;
}

// ---- tables ----

function sortRows(table, body, key, descending) {
  const rank = (row) => row[key] == null ? null : row[key];
  const rows = [...table.rows].sort((a, b) => {
    const x = rank(a), y = rank(b);
    if (x === null || y === null) return (x === null) - (y === null);
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return descending ? -order : order;
  });
  body.replaceChildren(...rows.map((row) => tableRow(table, row)));
}

function tableRow(table, row) {
  return element("tr", {}, ...table.columns.map((column) => {
    const value = row[column.key], classes = [];
    if (column.kind === "text") classes.push("text");
    if (column.key.endsWith("_paper")) classes.push("paper");
    if (column.kind === "difference" && isNumber(value) && value !== 0) classes.push(value > 0 ? "up" : "down");
    if (column.key === "state" && value === "failed") classes.push("failed");
    if (["top1", "macro_f1"].includes(column.key) && table.rows.length > 1 && isNumber(value) &&
        !row.chance && value === Math.max(...table.rows.map((r) => r[column.key]).filter(isNumber)))
      classes.push("best");
    if (row.chance && column.kind === "text") classes.push("failed");
    return element("td", {class: classes.join(" ") || null}, printed(value, column));
  }));
}

function tablePanel(table) {
  const body = element("tbody", {}, ...table.rows.map((row) => tableRow(table, row)));
  const heads = table.columns.map((column) => {
    const head = element("th", {class: column.kind === "text" ? "text" : null, scope: "col", tabindex: 0}, column.title);
    if (column.unit) head.append(element("small", {}, column.unit));
    const sort = () => {
      const descending = head.getAttribute("aria-sort") === "ascending" ||
        (column.kind !== "text" && !head.hasAttribute("aria-sort"));
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortRows(table, body, column.key, descending);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    return head;
  });
  return element("section", {class: "panel"}, element("h3", {}, table.title), element("p", {class: "note"}, table.note),
    element("div", {class: "scroll"},
      element("table", {id: "table-" + table.id}, element("thead", {}, element("tr", {}, ...heads)), body)));
}

// ---- charts ----

// Round steps of 1, 2 or 5 times a power of ten; about `count` of them.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.8);
  const all = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) all.push(i * step);
  return all;
}

const tickText = (x) => Math.abs(x) >= 1e4 ? x.toExponential(0) : String(+x.toPrecision(6));

function legend(entries, paper) {
  const items = entries.map((name, i) => element("span", {}, element("i", i < kColours
    ? {style: `background:${colour(i)}`} : {style: `box-shadow: inset 0 0 0 2.5px ${colour(i)}`}), name));
  if (paper) items.push(element("span", {}, element("i", {class: "tick"}), "the paper"));
  return element("div", {class: "legend"}, ...items);
}

function figurePanel(figure, drawing, entries, paper) {
  return element("section", {class: "panel", id: "figure-" + figure.id}, element("h3", {}, figure.title),
    legend(entries, paper), drawing);
}

// Breaks a label into lines of about `most` characters.
function lines(text, most) {
  const all = [""];
  for (const word of text.split(" ")) {
    const last = all[all.length - 1];
    if (last && last.length + word.length >= most) all.push(word);
    else all[all.length - 1] = last && !last.endsWith("-") ? last + " " + word : last + word;
  }
  return all;
}

function barChart(figure) {
  const width = 560, height = 300, left = 44, right = 8, top = 12;
  const columns = figure.groups.length, band = (width - left - right) / columns;
  const labels = figure.groups.map((name) => lines(name.replace(/[- ](?=Small|V2|x\d|1\.\d)/g, (m) => m === "-" ? "- " : m), Math.max(6, band / 6.4)));
  const bottom = 16 + 13 * Math.max(...labels.map((l) => l.length));
  const all = figure.series.flatMap((s) => [...s.values, ...(s.paper || [])]).filter(isNumber);
  const most = Math.max(...all, 0) || 1;
  const steps = ticks(0, most * 1.06, 5), high = Math.max(most * 1.06, steps[steps.length - 1]);
  const y = (v) => height - bottom - v / high * (height - bottom - top);
  const svg = shape("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": figure.title});
  for (const step of steps) {
    svg.append(shape("line", {class: "rule", x1: left, x2: width - right, y1: y(step), y2: y(step)}),
      shape("text", {x: left - 6, y: y(step) + 4, "text-anchor": "end"}, tickText(step)));
  }
  const each = Math.min(46, band * 0.82 / figure.series.length);
  figure.groups.forEach((group, g) => {
    const middle = left + band * (g + 0.5), first = middle - each * figure.series.length / 2;
    figure.series.forEach((series, s) => {
      const value = series.values[g], paper = series.paper && series.paper[g], x = first + s * each;
      const said = `${group}\n${series.name}: ${withUnit(printed(value, figure), figure.unit)}` +
        (isNumber(paper) ? `\nthe paper: ${withUnit(printed(paper, figure), figure.unit)}` : "");
      if (isNumber(value)) {
        svg.append(shape("rect", {x: x + 1, y: y(value), width: Math.max(1, each - 2), height: Math.max(0, y(0) - y(value)),
          rx: 2, fill: colour(s), "data-tip": said}));
        if (each > 30) svg.append(shape("text", {class: "value", x: x + each / 2, y: y(value) - 4, "text-anchor": "middle"},
          printed(value, {digits: Math.min(figure.digits, most >= 10 ? 1 : 3)})));
      }
      if (isNumber(paper)) svg.append(shape("line", {class: "paper", x1: x, x2: x + each, y1: y(paper), y2: y(paper), "data-tip": said}));
    });
    labels[g].forEach((line, i) =>
      svg.append(shape("text", {x: middle, y: height - bottom + 16 + 13 * i, "text-anchor": "middle"}, line)));
  });
  const title = figure.title + (figure.unit ? ` (${figure.unit})` : "");
  return figurePanel({...figure, title}, svg, figure.series.map((s) => s.name),
    figure.series.some((s) => (s.paper || []).some(isNumber)));
}

function axes(svg, frame, x, y, xText, yText) {
  const {width, height, left, right, top, bottom} = frame;
  for (const step of y.steps) svg.append(
    shape("line", {class: "rule", x1: left, x2: width - right, y1: y.at(step), y2: y.at(step)}),
    shape("text", {x: left - 6, y: y.at(step) + 4, "text-anchor": "end"}, tickText(step)));
  for (const step of x.steps) svg.append(
    shape("line", {class: "rule", x1: x.at(step), x2: x.at(step), y1: height - bottom, y2: height - bottom + 4}),
    shape("text", {x: x.at(step), y: height - bottom + 17, "text-anchor": "middle"}, tickText(step)));
  svg.append(shape("text", {x: width - right, y: height - 4, "text-anchor": "end"}, xText),
    shape("text", {x: left - 6, y: top - 8, "text-anchor": "start"}, yText));
}

// A linear scale with some room at both ends.
function scale(values, low, high, room) {
  let first = Math.min(...values), last = Math.max(...values);
  if (first === last) { first -= Math.abs(first) * 0.1 || 1; last += Math.abs(last) * 0.1 || 1; }
  const margin = (last - first) * room;
  first -= first >= 0 ? Math.min(margin, first) : margin;
  last += margin;
  return {at: (v) => low + (v - first) / (last - first) * (high - low), steps: ticks(first, last, 5)};
}

// Decades, and 2 and 5 times them where the range is short.
function logScale(values, low, high) {
  const first = Math.log10(Math.min(...values)) - 0.12, last = Math.log10(Math.max(...values)) + 0.12;
  const steps = [];
  for (let power = Math.floor(first); power <= last; ++power)
    for (const m of last - first < 2.5 ? [1, 2, 5] : [1]) {
      const at = power + Math.log10(m);
      if (at >= first && at <= last) steps.push(m * 10 ** power);
    }
  return {at: (v) => low + (Math.log10(v) - first) / (last - first) * (high - low), steps};
}

function scatterChart(figure) {
  const frame = {width: 560, height: 320, left: 44, right: 16, top: 26, bottom: 40};
  const groups = [...new Set(figure.points.map((p) => p.group))];
  const x = logScale(figure.points.map((p) => p.x), frame.left, frame.width - frame.right);
  const y = scale(figure.points.map((p) => p.y), frame.height - frame.bottom, frame.top, 0.12);
  const svg = shape("svg", {viewBox: `0 0 ${frame.width} ${frame.height}`, role: "img", "aria-label": figure.title});
  axes(svg, frame, x, y, withUnit(figure.x.title, `(${figure.x.unit}, logarithmic)`), `${figure.y.title} (${figure.y.unit})`);
  const dots = figure.points.map((p) => ({x: x.at(p.x), y: y.at(p.y)}));
  const taken = dots.map((d) => ({from: d.x - 7, to: d.x + 7, top: d.y - 7, bottom: d.y + 7}));
  const free = (box) => box.from > frame.left && box.to < frame.width &&
    !taken.some((t) => t.from < box.to && box.from < t.to && t.top < box.bottom && box.top < t.bottom);
  figure.points.forEach((point, i) => {
    const {x: px, y: py} = dots[i], index = groups.indexOf(point.group);
    svg.append(shape("circle", {cx: px, cy: py, r: 6, fill: colour(index), "data-tip":
      `${point.name}, ${point.group}\n${figure.y.title}: ${withUnit(printed(point.y, figure.y), figure.y.unit)}\n` +
      `${figure.x.title}: ${withUnit(printed(point.x, figure.x), figure.x.unit)}`}));
    // A label where it hides nothing: right, left, above or below; none where there is no room.
    const wide = point.name.length * 6;
    const places = [[px + 10, py], [px - 10 - wide, py], [px - wide / 2, py - 14], [px - wide / 2, py + 14]]
      .map(([from, middle]) => ({from, to: from + wide, top: middle - 6, bottom: middle + 6}));
    const place = places.find(free);
    if (!place) return;
    taken.push(place);
    svg.append(shape("text", {x: place.from, y: place.bottom - 2}, point.name));
  });
  return figurePanel(figure, svg, groups, false);
}

// Accuracy by epoch on what the cells are selected on, a line per cell of one data set.
function curveChart(title, cells, id) {
  const frame = {width: 560, height: 300, left: 44, right: 12, top: 26, bottom: 40};
  const names = cells.map((c) => c.label);
  const points = cells.map((c) => c.curve.map((e) => ({x: e.epoch, y: 100 * (e.validation_top1 ?? e.test_top1), loss: e.train_loss})));
  const x = scale(points.flat().map((p) => p.x), frame.left, frame.width - frame.right, 0);
  const y = scale(points.flat().map((p) => p.y), frame.height - frame.bottom, frame.top, 0.06);
  x.steps = x.steps.filter(Number.isInteger);
  const svg = shape("svg", {viewBox: `0 0 ${frame.width} ${frame.height}`, role: "img", "aria-label": title});
  axes(svg, frame, x, y, "epoch", cells.every((c) => (c.result || {}).selected_on === "validation") ? "top-1 accuracy on the validation images (%)"
    : "top-1 accuracy on the images selected on (%)");
  points.forEach((line, i) => {
    const path = line.map((p, k) => `${k ? "L" : "M"}${x.at(p.x).toFixed(1)} ${y.at(p.y).toFixed(1)}`).join("");
    svg.append(shape("path", {d: path, fill: "none", stroke: colour(i), "stroke-width": 2, "stroke-linejoin": "round",
      "stroke-dasharray": i < kColours ? "none" : "6 4"}));  // colours come round again
    for (const p of line) svg.append(shape("circle", {cx: x.at(p.x), cy: y.at(p.y), r: line.length > 30 ? 3 : 4,
      fill: colour(i), "fill-opacity": line.length > 30 ? 0 : 1,
      "data-tip": `${names[i]}\nepoch ${p.x}: ${p.y.toFixed(2)} %\ntraining loss ${p.loss.toFixed(4)}`}));
  });
  return figurePanel({id, title}, svg, names, false);
}

// Rows are the true classes; a row's colours are shares of the row.
function confusionChart(cell) {
  const matrix = cell.evaluation.confusion, n = matrix.length, names = cell.evaluation.per_class.map((c) => c.class);
  const named = n <= 20, left = named ? 8 + 6 * Math.max(...names.map((s) => s.length)) : 8, side = 400;
  const each = (side - left) / n;
  const svg = shape("svg", {viewBox: `0 0 ${side} ${side - left + (named ? left : 8)}`, role: "img", "aria-label": "confusion matrix"});
  svg.append(shape("rect", {x: left, y: 0, width: each * n, height: each * n, fill: "none", class: "rule"}));
  matrix.forEach((row, i) => {
    const sum = row.reduce((a, b) => a + b, 0);
    row.forEach((count, j) => {
      if (!count) return;
      svg.append(shape("rect", {x: left + j * each, y: i * each, width: each, height: each,
        fill: `rgba(var(--heat), ${(0.08 + 0.92 * count / sum).toFixed(3)})`,
        "data-tip": `${names[i]} taken for ${names[j]}\n${count} of ${sum} (${(100 * count / sum).toFixed(1)} %)`}));
    });
    if (!named) return;
    svg.append(shape("text", {x: left - 5, y: (i + 0.5) * each + 4, "text-anchor": "end"}, names[i]),
      shape("text", {x: 0, y: 0, "text-anchor": "end",
        transform: `translate(${left + (i + 0.5) * each + 4} ${each * n + 8}) rotate(-60)`}, names[i]));
  });
  return svg;
}

// ---- cells ----

function worstClasses(cell) {
  const kShown = 5, matrix = cell.evaluation.confusion;
  const rows = cell.evaluation.per_class.map((c, i) => {
    const wrong = matrix[i].map((count, j) => ({count, j})).filter((e) => e.j !== i).sort((a, b) => b.count - a.count)[0];
    return {class: c.class, f1: c.f1, precision: c.precision, recall: c.recall,
      taken: wrong && wrong.count ? `${cell.evaluation.per_class[wrong.j].class} (${wrong.count})` : null};
  }).sort((a, b) => a.f1 - b.f1).slice(0, kShown);
  const number = (key, title) => ({key, title, kind: "number", digits: 4});
  return tablePanel({id: "worst-" + cell.id, title: "Worst classes", note: "By F1; what they are taken for most often.",
    columns: [{key: "class", title: "class", kind: "text"}, number("f1", "F1"), number("precision", "precision"),
      number("recall", "recall"), {key: "taken", title: "taken for", kind: "text"}], rows});
}

function shots(cell) {
  const figures = (cell.explanations || []).filter((e) => e.image && e.overlay).map((e) => {
    const right = e.label === e.predicted;
    return element("figure", {}, element("img", {src: e.image, alt: e.label}),
      element("img", {src: e.overlay, alt: `where the network sees ${e.predicted}`}),
      element("figcaption", {}, `${e.label} `, element("span", {class: right ? null : "wrong"},
        `${right ? "seen as such" : "taken for " + e.predicted}, ${(100 * e.probability).toFixed(1)} %`)));
  });
  return figures.length ? element("div", {class: "shots"}, ...figures) : "";
}

function cellDetails(cell) {
  const summary = element("summary", {}, element("b", {}, cell.id));
  if (cell.state !== "done") {
    summary.append(element("span", {class: cell.state === "failed" ? "wrong" : null},
      cell.state === "weights missing" ? "not run: weights missing" : cell.state));
    return element("details", {id: "cell-" + cell.id}, summary, element("div", {}, element("pre", {}, cell.error || "")));
  }
  const e = cell.evaluation;
  summary.append(element("span", {}, `top-1 ${(100 * e.top1).toFixed(2)} %`), element("span", {}, `macro F1 ${e.macro_f1.toFixed(4)}`),
    element("span", {}, `${cell.curve.length} epochs`));
  const settings = Object.entries(cell.settings).map(([key, value]) => `--${key} ${value}`).join("  ");
  const details = element("details", {id: "cell-" + cell.id}, summary);
  // Drawn when it is opened: a matrix of 200 classes has 40,000 squares.
  const draw = () => {
    if (details.children.length > 1) return;
    details.append(element("div", {}, element("div", {class: "parts"},
      element("div", {}, element("h3", {}, "Confusion matrix"),
        element("p", {class: "note"}, "Rows are the true classes, columns what was predicted."), confusionChart(cell)),
      element("div", {}, worstClasses(cell), element("h3", {}, "Where it looks (Grad-CAM)"), shots(cell))),
      element("pre", {}, settings)));
  };
  details.addEventListener("toggle", draw);
  details.draw = draw;
  return details;
}

// ---- the page ----

function section(id, title, ...children) {
  document.getElementById("contents").append(element("a", {href: "#" + id}, title));
  document.getElementById("main").append(element("h2", {id}, title), ...children);
}

function card(value, text, bad = false) {
  return element("div", {class: bad ? "card bad" : "card"}, element("b", {}, String(value)), element("span", {}, text));
}

function head() {
  document.title = study.title;
  document.getElementById("title").textContent = study.title;
  const devices = study.devices.map((d) => `${d.name} (${d.device}, ${d.precision})`);
  document.getElementById("about").textContent = study.about || "";
  document.getElementById("measured").textContent =
    `Recipe ${study.recipe}. ` + (devices.length ? `Measured on ${devices.join("; ")}.` : "Nothing is measured yet.");
  const counts = study.counts, cards = document.getElementById("cards");
  cards.append(card(`${counts.done} of ${counts.planned}`, "cells done: training runs"));
  if (counts.failed) cards.append(card(counts.failed, "failed", true));
  if (counts["weights missing"]) cards.append(card(counts["weights missing"], "not run: weights missing", true));
  if (counts["not run yet"]) cards.append(card(counts["not run yet"], "not run yet"));
  const chance = new Set(study.chance || []);
  if (chance.size)
    cards.append(card(chance.size, "at chance: no better than guessing; train longer, on more, or at another rate", true));
  const best = study.cells.filter((c) => c.state === "done" && !chance.has(c.id)).sort((a, b) => b.evaluation.top1 - a.evaluation.top1)[0];
  if (best) cards.append(card(`${(100 * best.evaluation.top1).toFixed(2)} %`, `best: ${best.network}, ${best.data_name}`));
  const chosen = study.selection || {};
  if (chosen.validation) cards.append(card(chosen.validation, "runs whose best epoch validation images chose; tested once"));
  if (chosen.test) cards.append(card(chosen.test, "runs whose best epoch the test images chose, which flatters them", true));
  const minutes = study.cells.reduce((sum, c) => sum + (c.seconds || 0), 0) / 60;
  cards.append(card(minutes.toFixed(1), "minutes of training"));
}

function tips() {
  const tip = document.getElementById("tip");
  document.addEventListener("pointermove", (event) => {
    const target = event.target.closest && event.target.closest("[data-tip]");
    tip.style.display = target ? "block" : "none";
    if (!target) return;
    tip.textContent = target.getAttribute("data-tip");
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 16 + tip.offsetHeight < innerHeight;
    tip.style.left = x + "px";
    tip.style.top = (below ? event.clientY + 16 : event.clientY - tip.offsetHeight - 10) + "px";
  });
}

function curves() {
  const done = study.cells.filter((c) => c.state === "done" && c.curve.length > 1);
  const sets = [...new Set(done.map((c) => c.data))];
  return sets.map((data) => {
    const cells = done.filter((c) => c.data === data).map((c) => ({...c, label: c.id.replace(`-${data}`, "")}));
    return curveChart(cells[0].data_name, cells, "curve-" + data);
  });
}

function main() {
  head();
  const is = (start) => (table) => table.id.startsWith(start);
  const tables = (test) => study.tables.filter(test).map(tablePanel);
  const draw = (figure) => figure.kind === "bars" ? barChart(figure) : scatterChart(figure);
  const figures = (test) => element("div", {class: "grid"}, ...study.figures.filter(test).map(draw));
  const main = study.tables.filter((t) => !is("ablation-")(t) && t.id !== "cells" && t.rows.length);
  if (main.length) {
    section("tables", "Tables", ...main.map(tablePanel));
    section("figures", "Figures", figures(is("figure")));
    section("trade-offs", "Trade-offs", figures(is("accuracy-")));
  }
  const ablations = study.tables.filter(is("ablation-"));
  if (ablations.length) section("ablations", "Ablations", ...ablations.map(tablePanel), figures(is("ablation-")));
  const lines = curves();
  if (lines.length) section("curves", "Training curves", element("div", {class: "grid"}, ...lines));
  section("cells", "Every cell", ...tables((t) => t.id === "cells"), ...study.cells.map(cellDetails));
  tips();
  addEventListener("beforeprint", () => {
    for (const d of document.querySelectorAll("details")) { d.open = true; if (d.draw) d.draw(); }
  });
}

main();
