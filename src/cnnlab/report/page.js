"use strict";
// Sorts and filters the leaderboard, and draws the charts of the rows that are shown. Without it all tables are there.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("data").textContent);
  const status = document.getElementById("status");
  const form = document.getElementById("filter");

  // ---- the table -------------------------------------------------------------------------------------------------
  const keyOf = (cell) => {
    if (cell.dataset.value === undefined) return cell.textContent.trim().toLowerCase();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };

  function sortBy(heading) {
    const table = heading.closest("table");
    const first = heading.dataset.first || "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [keyOf(row.cells[heading.cellIndex]), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // nothing is last, whichever way
      return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
    });
    for (const each of table.querySelectorAll("th[aria-sort]")) each.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    table.tBodies[0].append(...rows.map(([, row]) => row));
    status.textContent = `sorted by ${heading.textContent.trim()}, ${order}`;
  }

  for (const heading of document.querySelectorAll("table.leaderboard thead th")) {
    heading.querySelector("button")?.addEventListener("click", () => sortBy(heading));
  }

  // ---- the filter ------------------------------------------------------------------------------------------------
  const chosen = () => [...form.querySelectorAll("select[data-facet]")].filter((select) => select.value !== "");

  function shownRows() {
    const wanted = chosen();
    return data.rows.filter((row) => wanted.every((select) => row.facets[select.dataset.facet] === select.value));
  }

  function apply() {
    const rows = shownRows();
    const numbers = new Set(rows.map((row) => String(row.number)));
    for (const part of document.querySelectorAll("[data-row]")) part.hidden = !numbers.has(part.dataset.row);
    status.textContent = `${rows.length} of ${data.rows.length} rows shown`;
    draw(rows);
  }

  // ---- charts ----------------------------------------------------------------------------------------------------
  function make(parent, name, attributes = {}, text = null) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== null) element.textContent = text;
    parent?.append(element);
    return element;
  }

  const short = (value) => {
    const size = Math.abs(value);
    if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
    if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
    return String(Number(value.toPrecision(4)));
  };

  function ticksOf(low, high, log, count) {
    const ticks = [];
    if (log) {
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
        for (const digit of [1, 2, 5]) ticks.push(digit * 10 ** power);
      }
      const inside = ticks.filter((tick) => tick >= low && tick <= high);
      const whole = inside.filter((tick) => Number.isInteger(Math.log10(tick)));
      return inside.length > count && whole.length > 1 ? whole : inside;
    }
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= rough);
    for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) ticks.push(tick);
    return ticks;
  }

  // A chart of marks {points: [[x, y, half], ...], color, name, line, dotted} as wide as its place allows.
  function chart(host, title, x, y, marks) {
    const points = marks.flatMap((mark) => mark.points);
    const figure = document.createElement("figure");
    host.append(figure);
    if (!points.length) return figure.remove();
    const width = Math.max(260, figure.clientWidth), height = Math.round(Math.min(340, Math.max(240, width * 0.6)));
    const left = 58, right = 12, top = 28, bottom = 44;
    const svg = make(figure, "svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
    const summary = `${title}: ${marks.length} ${marks[0].line ? "lines" : "points"}, the numbers are in the leaderboard`;
    make(svg, "title", {}, summary);
    make(svg, "text", { x: width < 400 ? 0 : left, y: 16, class: "title" }, title); // whole on a phone

    const scale = (values, log, from, to, pad) => {
      let low = Math.min(...values), high = Math.max(...values);
      if (log) {
        [low, high] = low === high ? [low / 2, high * 2] : [low * 0.8, high * 1.25];
        const span = Math.log(high / low);
        return { low, high, at: (value) => from + (Math.log(value / low) / span) * (to - from) };
      }
      const room = (high - low) * pad || Math.abs(high) * 0.1 || 1;
      [low, high] = [low - room, high + room];
      return { low, high, at: (value) => from + ((value - low) / (high - low)) * (to - from) };
    };
    const wide = (values) => Math.min(...values) > 0 && Math.max(...values) > 50 * Math.min(...values);
    const heights = points.flatMap(([, value, half]) => (half ? [value - half, value + half] : [value]));
    const logarithmic = y.log && wide(heights);
    const across = scale(points.map(([value]) => value), x.log, left, width - right, 0.02);
    const up = scale(heights, logarithmic, height - bottom, top, 0.06);
    for (const tick of ticksOf(across.low, across.high, x.log, width / 90)) {
      if (x.whole && !Number.isInteger(tick)) continue;
      const place = across.at(tick);
      make(svg, "line", { x1: place, x2: place, y1: top, y2: height - bottom, class: "grid" });
      make(svg, "text", { x: place, y: height - bottom + 17, "text-anchor": "middle" }, short(tick));
    }
    for (const tick of ticksOf(up.low, up.high, logarithmic, height / 50)) {
      const place = up.at(tick);
      make(svg, "line", { x1: left, x2: width - right, y1: place, y2: place, class: "grid" });
      make(svg, "text", { x: left - 6, y: place + 4, "text-anchor": "end" }, short(tick));
    }
    make(svg, "text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, x.label);
    for (const mark of marks) {
      const group = make(svg, "g");
      make(group, "title", {}, mark.name);
      if (mark.line && mark.points.length > 1) {
        const d = mark.points.map(([a, b], place) => `${place ? "L" : "M"}${across.at(a).toFixed(1)} ${up.at(b).toFixed(1)}`);
        make(group, "path", { d: d.join(""), class: "hit" });
        const path = make(group, "path", { d: d.join(""), class: "curve", stroke: mark.color });
        if (mark.dotted) path.setAttribute("stroke-dasharray", "2 4");
        continue;
      }
      for (const [a, b, half] of mark.points) {
        const place = across.at(a);
        if (half) {
          make(group, "line", { x1: place, x2: place, y1: up.at(b - half), y2: up.at(b + half), stroke: mark.color });
        }
        make(group, "circle", { cx: place, cy: up.at(b), r: 5, fill: mark.color });
      }
    }
  }

  function draw(rows) {
    const curves = document.getElementById("curves"), against = document.getElementById("against");
    const parts = document.getElementById("lines").value;
    for (const host of [curves, against]) host.replaceChildren();
    for (const dataset of new Set(rows.map((row) => row.facets.dataset))) {
      const there = rows.filter((row) => row.facets.dataset === dataset);
      const splits = { validation: ["val"], training: ["train"], both: ["val", "train"] }[parts];
      for (const [measure, label] of [["acc", "accuracy"], ["loss", "loss (nats)"]]) {
        const marks = there.flatMap((row) => row.curves.flatMap((curve) => splits.map((split) => ({
          points: curve[`${split}/${measure}`] || [], color: row.color, line: true, dotted: split === "train",
          name: `${row.name}, ${curve.name}, ${split === "val" ? "validation" : "training"}`,
        })))).filter((mark) => mark.points.length);
        chart(curves, `${dataset}: ${label} by epoch`, { label: "epoch", whole: true }, { log: true }, marks);
      }
      for (const [key, label] of [["parameters", "parameters"], ["seconds", "training seconds"]]) {
        const marks = there.filter((row) => row[key] > 0 && row.reached).map((row) => ({
          points: [[row[key], ...row.reached]], color: row.color, line: false,
          name: `${row.name}: ${row.reached[0].toFixed(4)}${row.reached[1] ? ` ± ${row.reached[1].toFixed(4)}` : ""}, ` +
            `${short(row[key])} ${label}`,
        }));
        chart(against, `${dataset}: ${data.measured} by ${label}`, { label, log: true }, {}, marks);
      }
    }
    for (const host of [curves, against]) {
      const what = host === curves ? "No curves of these rows were kept." : "Nothing to draw of these rows.";
      if (!host.childElementCount) host.textContent = what;
    }
    const legend = document.getElementById("legend");
    legend.replaceChildren(...rows.filter((row) => row.curves.length).slice(0, 30).map((row) => {
      const item = document.createElement("li"), swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = row.color;
      item.append(swatch, row.name);
      return item;
    }));
  }

  // ---- what is clicked -------------------------------------------------------------------------------------------
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    const text = button.parentElement.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
      status.textContent = button.textContent = "copied";
    } catch { // a page from a file may not write to the clipboard everywhere: select it then
      getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
    }
  });
  const open = () => {
    const part = location.hash && document.getElementById(location.hash.slice(1));
    if (part?.tagName === "DETAILS") part.open = true;
  };
  addEventListener("hashchange", open);
  open();
  const curves = document.getElementById("curves");
  let width = curves.clientWidth;
  draw(shownRows());
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) < 2) return;
    width = entry.contentRect.width;
    requestAnimationFrame(() => draw(shownRows()));
  }).observe(curves);
})();
