"use strict";
// One selection of starts, shared by all pictures and the table of a page.
//
// A start is a row of the table in #starts-data. A picture holds its marks in paths of
// class "marks": one subpath for each start, whose row stands in data-rows. The selection
// is what passes the filters and lies in the brush, or was clicked. It is drawn as a second
// path over the first, which turns faint. The state stands in the hash of the address:
// #starts&brush=figure,x0,y0,x1,y1&rows=3,7&setting=a&top=10&pin=3&sort=loss,down
(() => {
  const holder = document.getElementById("starts-data");
  if (!holder) return;
  const data = JSON.parse(holder.textContent);
  const count = data.count;
  const columns = data.columns;
  const byName = new Map(columns.map((column) => [column.name, column]));
  const PINS = ["#c05621", "#6b46c1", "#2f855a", "#b83280", "#2c7a7b"];
  const PAGE = 15;
  const NEAR = 9; // how far from a mark a click may be, in points of the picture
  const SVG = "http://www.w3.org/2000/svg";

  const text = (column, row) => {
    const value = column.values[row];
    if (column.levels) return value < 0 ? "" : column.levels[value];
    return value === null ? "" : String(value);
  };
  const shown = (column, row) => {
    const value = column.values[row];
    if (column.levels || value === null || column.places == null) return text(column, row);
    return value.toFixed(column.places);
  };
  const number = (column, row) => {
    const value = column.values[row];
    if (column.levels) return value;
    return value === null ? NaN : value;
  };

  // ---- state

  const empty = () => ({
    brush: null, rows: null, filters: {}, top: null, where: null, pins: [], sort: null,
  });
  let state = empty();
  let page = 0;
  let marked = new Uint8Array(count).fill(1);
  let active = false;
  let ranks = null; // of the metric, best first

  const written = () => {
    const parts = [];
    const put = (name, values) => parts.push(
      name + "=" + values.map((value) => encodeURIComponent(value)).join(",")
    );
    if (state.brush) put("brush", [state.brush.view, ...state.brush.box]);
    if (state.rows) put("rows", [...state.rows].sort((a, b) => a - b));
    for (const [name, value] of Object.entries(state.filters)) put("is." + name, [value]);
    if (state.where) put("where", state.where);
    if (state.top) put("top", [state.top]);
    if (state.pins.length) put("pin", state.pins);
    if (state.sort) put("sort", [state.sort.name, state.sort.down ? "down" : "up"]);
    return parts.length ? "#starts&" + parts.join("&") : "";
  };

  const parsed = (hash) => {
    const found = empty();
    const rowsOf = (values) => values.map(Number)
      .filter((row) => Number.isInteger(row) && row >= 0 && row < count);
    for (const part of hash.slice(1).split("&").slice(1)) {
      const at = part.indexOf("=");
      if (at < 0) continue;
      const name = part.slice(0, at);
      let values;
      try {
        values = part.slice(at + 1).split(",").map(decodeURIComponent);
      } catch {
        continue; // not written by this page
      }
      if (name === "brush" && views.some((view) => view.name === values[0])) {
        const box = values.slice(1).map(Number);
        if (box.length === 4 && box.every(Number.isFinite)) {
          found.brush = { view: values[0], box };
        }
      } else if (name === "rows") found.rows = new Set(rowsOf(values));
      else if (name === "pin") found.pins = rowsOf(values).slice(0, PINS.length);
      else if (name === "top" && Number(values[0]) > 0) found.top = Number(values[0]);
      else if (name === "where" && values.length === 3 && byName.has(values[0])) {
        found.where = values;
      } else if (name === "sort" && byName.has(values[0])) {
        found.sort = { name: values[0], down: values[1] === "down" };
      } else if (name.startsWith("is.") && byName.has(name.slice(3))) {
        found.filters[name.slice(3)] = values[0];
      }
    }
    return found;
  };

  const keep = () => {
    const hash = written();
    const here = location.href.split("#")[0];
    // file: addresses may refuse it; the page works without
    try { history.replaceState(null, "", here + hash); } catch { /* no state */ }
  };

  const best = () => {
    if (ranks) return ranks;
    const metric = byName.get(data.metric);
    const value = (row) => {
      const found = number(metric, row);
      return Number.isNaN(found) ? -Infinity : (data.higher ? found : -found);
    };
    const ties = data.ties.map((name) => byName.get(name));
    const rest = (column, row) => {
      const found = number(column, row);
      return Number.isNaN(found) ? Infinity : found;
    };
    const compared = (a, b) => {
      const [one, two] = [value(a), value(b)];
      if (one !== two) return one > two ? -1 : 1;
      for (const column of ties) {
        const [low, high] = [rest(column, a), rest(column, b)];
        if (low !== high) return low < high ? -1 : 1;
      }
      return a - b;
    };
    const order = Array.from({ length: count }, (_, row) => row).sort(compared);
    ranks = new Uint32Array(count);
    order.forEach((row, rank) => { ranks[row] = rank; });
    return ranks;
  };

  const refresh = () => {
    active = Boolean(state.brush || state.rows || state.top || state.where
      || Object.keys(state.filters).length);
    marked.fill(active ? 0 : 1);
    if (active) {
      const view = state.brush && views.find((one) => one.name === state.brush.view);
      const inside = view ? view.inside(state.brush.box) : null;
      const chosen = Object.entries(state.filters).map(([name, value]) => {
        const column = byName.get(name);
        return [column.values, column.levels.indexOf(value)];
      });
      for (let row = 0; row < count; row++) {
        if (inside && !inside[row]) continue;
        if (state.rows && !state.rows.has(row)) continue;
        if (chosen.some(([values, level]) => values[row] !== level)) continue;
        if (state.where && !holds(state.where, row)) continue;
        marked[row] = 1;
      }
      if (state.top) limit(state.top);
    }
    for (const view of views) view.show();
    table.show();
    controls.show();
  };

  const holds = ([name, relation, bound], row) => {
    const value = number(byName.get(name), row);
    return relation === "ge" ? value >= Number(bound) : value <= Number(bound);
  };

  // The k best of the starts that pass everything else.
  const limit = (most) => {
    const order = best();
    const rows = [];
    for (let row = 0; row < count; row++) if (marked[row]) rows.push(row);
    rows.sort((a, b) => order[a] - order[b]);
    for (const row of rows.slice(most)) marked[row] = 0;
  };

  const change = (changes) => {
    state = { ...state, ...changes };
    page = 0;
    refresh();
    keep();
  };

  // ---- pictures

  class View {
    constructor(svg) {
      this.svg = svg;
      this.name = svg.id.replace(/-svg$/, "");
      this.box = svg.viewBox.baseVal;
      this.layers = [...svg.querySelectorAll("path.marks")].map((path) => {
        const given = JSON.parse(path.dataset.rows);
        const rows = Array.isArray(given) ? Int32Array.from(given)
          : Int32Array.from({ length: given.count }, (_, k) => given.first + k);
        const pieces = path.getAttribute("d").split("M").slice(1);
        const points = pieces.map(
          (piece) => Float32Array.from(piece.match(/-?[\d.]+(?=[ LhM]|$)/g) || [])
        );
        const over = path.cloneNode(false);
        over.removeAttribute("data-rows");
        over.setAttribute("class", "over");
        over.setAttribute("d", "");
        path.after(over);
        return { path, rows, pieces, points: points.map(trimmed), over };
      });
      this.pins = document.createElementNS(SVG, "g");
      this.cursor = document.createElementNS(SVG, "circle");
      this.cursor.setAttribute("class", "cursor");
      this.cursor.setAttribute("r", "6");
      svg.append(this.pins, this.cursor);
      this.place = -1;
      this.brushed();
      svg.setAttribute("tabindex", "0");
      svg.addEventListener("keydown", (event) => this.key(event));
      svg.addEventListener("pointermove", (event) => this.hover(event));
      svg.addEventListener("pointerleave", () => tip.hide());
    }

    brushed() {
      const group = d3.select(this.svg).append("g").attr("class", "brush");
      let waiting = null;
      this.brush = d3.brush()
        .extent([[0, 0], [this.box.width, this.box.height]])
        .touchable(false) // a finger scrolls the page
        .keyModifiers(false)
        .on("brush end", (event) => {
          if (!event.sourceEvent) return; // moved by us
          if (event.selection) {
            const box = event.selection.flat().map((x) => Math.round(10 * x) / 10);
            waiting = box;
            requestAnimationFrame(() => {
              if (waiting !== box) return;
              if (event.type === "end") keepOnly(this);
              change({ brush: { view: this.name, box }, rows: null });
            });
          } else if (event.type === "end") {
            waiting = null;
            const [x, y] = d3.pointer(event.sourceEvent, this.svg);
            this.click(x, y, event.sourceEvent);
          }
        });
      group.call(this.brush);
      group.attr("aria-hidden", "true").attr("focusable", "false");
      this.group = group;
    }

    click(x, y, event) {
      const near = this.nearest(x, y);
      if (near === null) {
        change({ brush: null, rows: null });
        return;
      }
      const rows = new Set(event.shiftKey && state.rows ? state.rows : []);
      if (rows.has(near)) rows.delete(near); else rows.add(near);
      change({ brush: null, rows: rows.size ? rows : null });
    }

    nearest(x, y) {
      let found = null;
      let least = NEAR * NEAR;
      for (const layer of this.layers) {
        for (let k = 0; k < layer.rows.length; k++) {
          if (active && !marked[layer.rows[k]] && !state.rows) continue;
          const points = layer.points[k];
          for (let i = 0; i + 1 < points.length; i += 2) {
            const distance = (points[i] - x) ** 2 + (points[i + 1] - y) ** 2;
            if (distance < least) { least = distance; found = layer.rows[k]; }
          }
        }
      }
      return found;
    }

    // The rows that have a mark, or a part of a curve, in a box.
    inside([left, top, right, bottom]) {
      const rows = new Uint8Array(count);
      for (const layer of this.layers) {
        for (let k = 0; k < layer.rows.length; k++) {
          const points = layer.points[k];
          for (let i = 0; i + 1 < points.length; i += 2) {
            const x = points[i];
            const y = points[i + 1];
            if (x >= left && x <= right && y >= top && y <= bottom) {
              rows[layer.rows[k]] = 1;
              break;
            }
            if (i > 0 && crosses(points[i - 2], points[i - 1], x, y,
              left, top, right, bottom)) {
              rows[layer.rows[k]] = 1;
              break;
            }
          }
        }
      }
      return rows;
    }

    show() {
      this.svg.classList.toggle("selecting", active);
      for (const layer of this.layers) {
        let d = "";
        if (active) {
          const chosen = [];
          for (let k = 0; k < layer.rows.length; k++) {
            if (marked[layer.rows[k]]) chosen.push(layer.pieces[k]);
          }
          if (chosen.length) d = "M" + chosen.join("M");
        }
        layer.over.setAttribute("d", d);
      }
      this.pins.replaceChildren(...state.pins.flatMap((row, place) => this.pinned(row, place)));
      if (!state.brush || state.brush.view !== this.name) {
        if (d3.select(this.group.node()).property("__brush")?.selection) {
          this.group.call(this.brush.move, null);
        }
      } else {
        const [left, top, right, bottom] = state.brush.box;
        const now = this.group.property("__brush")?.selection;
        if (!now) this.group.call(this.brush.move, [[left, top], [right, bottom]]);
      }
    }

    pinned(row, place) {
      const drawn = [];
      for (const layer of this.layers) {
        layer.rows.forEach((owner, k) => {
          if (owner !== row) return;
          const path = layer.path.cloneNode(false);
          path.removeAttribute("data-rows");
          path.setAttribute("class", "pin");
          path.setAttribute("d", "M" + layer.pieces[k]);
          const wide = layer.points[k].length > 2 ? 2 : 9;
          path.style.cssText += `;stroke:${PINS[place]};stroke-width:${wide};opacity:1;stroke-opacity:1`;
          drawn.push(path);
        });
      }
      return drawn;
    }

    hover(event) {
      if (event.buttons) return;
      const [x, y] = d3.pointer(event, this.svg);
      const row = this.nearest(x, y);
      if (row === null) tip.hide(); else tip.show(row, event.clientX, event.clientY);
    }

    // Arrow keys walk through the starts from left to right; Enter selects one.
    key(event) {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") {
        change({ brush: null, rows: null });
        return;
      }
      this.order ??= this.layers.flatMap((layer) => Array.from(layer.rows, (row, k) => {
        const points = layer.points[k];
        return { row, x: points[points.length - 2], y: points[points.length - 1] };
      })).sort((a, b) => a.x - b.x || b.y - a.y);
      if (step && this.order.length) {
        event.preventDefault();
        const all = this.order.length;
        this.place = this.place < 0 ? (step > 0 ? 0 : all - 1) : (this.place + step + all) % all;
        const { row, x, y } = this.order[this.place];
        this.cursor.setAttribute("cx", x);
        this.cursor.setAttribute("cy", y);
        this.cursor.classList.add("shown");
        controls.say(described(row));
      } else if (event.key === "Enter" && this.place >= 0) {
        const rows = new Set(state.rows || []);
        const { row } = this.order[this.place];
        if (rows.has(row)) rows.delete(row); else rows.add(row);
        change({ brush: null, rows: rows.size ? rows : null });
      }
    }
  }

  // "x y" or "x yh0": the h0 of a dot has no coordinates of its own.
  const trimmed = (points) => (points.length % 2 ? points.slice(0, -1) : points);

  const crosses = (x0, y0, x1, y1, left, top, right, bottom) => {
    let from = 0;
    let to = 1;
    const dx = x1 - x0;
    const dy = y1 - y0;
    for (const [p, q] of [[-dx, x0 - left], [dx, right - x0], [-dy, y0 - top], [dy, bottom - y0]]) {
      if (p === 0) {
        if (q < 0) return false;
      } else if (p < 0) from = Math.max(from, q / p);
      else to = Math.min(to, q / p);
    }
    return from <= to;
  };

  const keepOnly = (view) => {
    for (const other of views) {
      if (other !== view && other.group.property("__brush")?.selection) {
        other.group.call(other.brush.move, null);
      }
    }
  };

  const described = (row) => data.tip
    .map((name) => `${byName.get(name).label} ${shown(byName.get(name), row) || "not known"}`)
    .join(", ");

  const tip = {
    element: document.createElement("div"),
    show(row, x, y) {
      this.element.textContent = described(row);
      this.element.style.left = `${Math.min(x + 12, innerWidth - 240)}px`;
      this.element.style.top = `${y + 14}px`;
      this.element.hidden = false;
    },
    hide() { this.element.hidden = true; },
  };
  tip.element.className = "tip";
  tip.element.hidden = true;
  tip.element.setAttribute("aria-hidden", "true");
  document.body.append(tip.element);

  // ---- elements

  const element = (kind, attributes = {}, ...children) => {
    const made = document.createElement(kind);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value !== null && value !== false) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  };

  const choice = (label, options, onchange) => {
    const select = element("select", { onchange: () => onchange(select.value) },
      ...options.map(([value, shown]) => element("option", { value }, shown)));
    return { select, label: element("label", {}, label + " ", select) };
  };

  const controls = {
    make(place) {
      this.filters = columns.filter((column) => column.filter && column.levels.length > 1)
        .map((column) => {
          const made = choice(column.label, [["", "all"], ...column.levels.map((level) => [level, level])],
            (value) => {
              const filters = { ...state.filters };
              if (value) filters[column.name] = value; else delete filters[column.name];
              change({ filters });
            });
          return { column, ...made };
        });
      const tops = [["", "all"], ["1", "1"], ["5", "5"], ["10", "10"], ["50", "50"], ["100", "100"]]
        .filter(([value]) => Number(value) < count);
      this.top = choice("best", tops, (value) => change({ top: value ? Number(value) : null }));
      const numbers = columns.filter((column) => !column.levels);
      const where = () => {
        const bound = this.bound.value.trim();
        change({
          where: this.column.value && bound !== "" && Number.isFinite(Number(bound))
            ? [this.column.value, this.relation.value, bound] : null,
        });
      };
      this.column = element("select", { "aria-label": "column of the condition", onchange: where },
        element("option", { value: "" }, "column"),
        ...numbers.map((one) => element("option", { value: one.name }, one.label)));
      this.relation = element("select", { "aria-label": "relation of the condition", onchange: where },
        element("option", { value: "ge" }, "at least"), element("option", { value: "le" }, "at most"));
      this.bound = element("input", {
        type: "text", inputmode: "decimal", size: "7",
        "aria-label": "number of the condition", onchange: where,
      });
      this.status = element("p", { role: "status", class: "status" });
      this.clear = element("button", {
        type: "button",
        onclick: () => change({ ...empty(), pins: state.pins, sort: state.sort }),
      }, "Clear selection");
      this.save = element("button", { type: "button", onclick: save }, "Save as CSV");
      place.append(
        element("div", { class: "controls" },
          ...this.filters.map((filter) => filter.label), this.top.label,
          element("span", { class: "where" }, this.column, this.relation, this.bound),
          this.clear, this.save),
        this.status,
      );
    },
    show() {
      for (const { column, select } of this.filters) {
        select.value = state.filters[column.name] ?? "";
      }
      const top = state.top ? String(state.top) : "";
      if (top && ![...this.top.select.options].some((option) => option.value === top)) {
        this.top.select.append(element("option", { value: top }, top));
      }
      this.top.select.value = top;
      if (state.where) {
        [this.column.value, this.relation.value, this.bound.value] = state.where;
      } else if (document.activeElement !== this.bound) this.bound.value = "";
      this.clear.disabled = !active;
      const chosen = marked.reduce((sum, one) => sum + one, 0);
      this.save.textContent = active ? `Save ${chosen} as CSV` : "Save all as CSV";
      const tied = state.top && data.ties.length
        ? ` Equal values are ordered by ${data.ties.map((name) => byName.get(name).label).join(", then ")}.`
        : "";
      this.say(active ? `${chosen} of ${count} ${data.unit} selected${this.middle()}.${tied}`
        : `${count} ${data.unit}${this.middle()}. `, active ? "" : data.help);
    },
    middle() {
      const metric = byName.get(data.metric);
      const values = [];
      for (let row = 0; row < count; row++) {
        const value = number(metric, row);
        if (marked[row] && !Number.isNaN(value)) values.push(value);
      }
      if (!values.length) return "";
      values.sort((a, b) => a - b);
      const half = Math.floor(values.length / 2);
      const median = values.length % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
      return `, median ${metric.label} ${Number(median.toPrecision(4))}`;
    },
    // What to do is not printed on paper.
    say(words, help = "") {
      this.status.replaceChildren(words, ...(help ? [element("span", { class: "hint" }, help)] : []));
    },
  };

  const quoted = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

  const save = () => {
    const lines = [columns.map((column) => quoted(column.name)).join(",")];
    for (const row of table.order()) {
      lines.push(columns.map((column) => quoted(text(column, row))).join(","));
    }
    const address = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    const link = element("a", { href: address, download: "selected-starts.csv" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  };

  const table = {
    make(place) {
      this.shown = columns.filter((column) => column.shown);
      this.heads = this.shown.map((column) => element("th",
        { scope: "col", class: column.levels ? null : "n" },
        element("button", {
          type: "button", class: "sort",
          onclick: () => {
            const same = state.sort?.name === column.name;
            // Numbers begin with the largest, texts with the first.
            change({ sort: { name: column.name, down: same ? !state.sort.down : !column.levels } });
          },
        }, column.label)));
      this.body = element("tbody");
      this.back = element("button", { type: "button", onclick: () => this.turn(-1) }, "Back");
      this.next = element("button", { type: "button", onclick: () => this.turn(1) }, "Next");
      this.where = element("span", {});
      place.append(
        element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of the starts" },
          element("table", { class: "starts" },
            element("thead", {}, element("tr", {}, ...this.heads,
              element("th", { scope: "col" }, "pin"))),
            this.body)),
        element("p", { class: "pages" }, this.back, " ", this.where, " ", this.next),
      );
    },
    order() {
      const rows = [];
      for (let row = 0; row < count; row++) if (marked[row]) rows.push(row);
      if (!state.sort) {
        if (!state.top) return rows;
        const ranked = best();
        return rows.sort((a, b) => ranked[a] - ranked[b]);
      }
      const column = byName.get(state.sort.name);
      const sign = state.sort.down ? -1 : 1;
      const key = column.levels
        ? rankOf(column) : (row) => number(column, row);
      return rows.sort((a, b) => {
        const one = key(a);
        const two = key(b);
        if (Number.isNaN(one) || Number.isNaN(two)) return Number.isNaN(one) - Number.isNaN(two) || a - b;
        return sign * (one - two) || a - b;
      });
    },
    turn(step) {
      page += step;
      this.show();
    },
    show() {
      const rows = this.order();
      const pages = Math.max(1, Math.ceil(rows.length / PAGE));
      page = Math.min(Math.max(page, 0), pages - 1);
      this.shown.forEach((column, k) => {
        const sorted = state.sort?.name === column.name;
        if (sorted) this.heads[k].setAttribute("aria-sort", state.sort.down ? "descending" : "ascending");
        else this.heads[k].removeAttribute("aria-sort");
      });
      this.body.replaceChildren(...rows.slice(page * PAGE, (page + 1) * PAGE).map((row) => this.row(row)));
      this.where.textContent = rows.length
        ? `${page * PAGE + 1} to ${Math.min(rows.length, (page + 1) * PAGE)} of ${rows.length}` : "none";
      this.back.disabled = page === 0;
      this.next.disabled = page >= pages - 1;
    },
    row(row) {
      const place = state.pins.indexOf(row);
      const pin = element("button", {
        type: "button", class: "pinning", "aria-pressed": String(place >= 0),
        "aria-label": `pin ${described(row)}`,
        onclick: () => {
          const pins = place >= 0 ? state.pins.filter((one) => one !== row)
            : [...state.pins, row].slice(-PINS.length);
          const at = page;
          change({ pins });
          page = at;
          this.show();
          this.body.querySelector(`tr[data-row="${row}"] .pinning`)?.focus();
        },
      }, place >= 0 ? "●" : "○");
      if (place >= 0) pin.style.color = PINS[place];
      return element("tr", { "data-row": row },
        ...this.shown.map((column) => element("td", { class: column.levels ? null : "n" },
          shown(column, row))),
        element("td", {}, pin));
    },
  };

  const rankOf = (column) => {
    const order = column.levels.map((level, k) => [level, k])
      .sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true }));
    const ranks = new Array(column.levels.length);
    order.forEach(([, k], rank) => { ranks[k] = rank; });
    return (row) => (column.values[row] < 0 ? NaN : ranks[column.values[row]]);
  };

  // ---- begin

  const views = [...document.querySelectorAll("svg.plot")]
    .filter((svg) => svg.querySelector("path.marks")).map((svg) => new View(svg));
  const place = document.getElementById("starts-table");
  controls.make(place);
  table.make(place);
  const read = () => {
    if (location.hash.startsWith("#starts&")) {
      state = parsed(location.hash);
      page = 0;
      for (const view of views) view.group.call(view.brush.move, null);
    }
    refresh();
  };
  addEventListener("hashchange", read);
  read();
})();
