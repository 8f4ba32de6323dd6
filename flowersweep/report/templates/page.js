"use strict";
(() => {
  let figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const coarse = window.matchMedia("(pointer: coarse)").matches;
  const config = { responsive: true, displayModeBar: false, displaylogo: false, showTips: false };

  // colours of text and grid, which differ between light, dark and paper
  function themed(layout, lit) {
    const [text, grid] = lit ? ["#1c2127", "#dfe3e8"] : ["#e6e9ec", "#343b42"];
    const axis = { gridcolor: grid, linecolor: grid, tickcolor: grid };
    return {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: text },
      margin: { l: 40, r: 12, t: 24, b: 40 },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      hovermode: "closest",
      dragmode: coarse ? false : "zoom", // a finger scrolls the page
      xaxis: { ...axis, ...layout.xaxis },
      yaxis: { ...axis, ...layout.yaxis },
    };
  }

  let charts = [...document.querySelectorAll(".chart")];
  function draw(chart, lit, width) {
    const figure = figures[chart.id];
    const layout = themed(figure.layout, lit);
    if (width) Object.assign(layout, { width, autosize: false });
    return Plotly.react(chart, figure.data, layout, config);
  }
  function drawAll(lit, width) {
    return Promise.all(charts.map((chart) => draw(chart, lit, width && width(chart))));
  }
  (function next(left) {
    if (left.length) draw(left[0], !dark.matches).then(() => setTimeout(next, 0, left.slice(1)));
    else document.body.dataset.drawn = charts.length;
  })(charts);
  dark.addEventListener("change", () => drawAll(!dark.matches));
  window.addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details")) each.open = each.dataset.print === "open" || each.open;
    drawAll(true, (chart) => (chart.closest(".grid") ? 320 : 660));
  });
  window.addEventListener("afterprint", () => drawAll(!dark.matches));

  async function copy(button) {
    const command = document.getElementById(button.dataset.of);
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      window.getSelection().selectAllChildren(command); // no clipboard for pages opened from a file in some browsers
      button.textContent = "Selected: copy with the keyboard";
    }
  }

  function sort(heading, down) {
    const table = heading.closest("table");
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[heading.cellIndex];
        const text = cell.dataset.value ?? cell.textContent;
        return text === "" ? null : Number.isNaN(Number(text)) ? text : Number(text);
      };
      const order = (a, b) => {
        if (a === null || b === null) return (a === null) - (b === null); // what is empty comes last
        const less = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
        return down ? -less : less;
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].map((row) => [key(row), row]).sort((x, y) => order(x[0], y[0])).map((pair) => pair[1]));
  }

  document.addEventListener("click", ({ target }) => {
    if (target.matches(".copy")) copy(target);
    if (target.matches("th button")) sort(target.parentElement, target.parentElement.getAttribute("aria-sort") === "ascending");
  });

  // take over what is new on another version of this page; what is the same stays untouched
  const taken = new WeakMap(); // element -> its HTML as the server sent it
  window.takeOver = (page) => {
    figures = JSON.parse(page.getElementById("figures").textContent);
    const parts = [...page.querySelectorAll("#introduction, main section")];
    for (const part of parts) {
      const place = (each) => (each.id ? `#${each.id}` : `section[aria-labelledby="${each.getAttribute("aria-labelledby")}"]`);
      const own = document.querySelector(place(part));
      const html = part.innerHTML;
      if (!own || taken.get(own) === html || own.contains(document.activeElement)) continue;
      const sorted = [...own.querySelectorAll("th[aria-sort]")].map((th) => [th.cellIndex, th.getAttribute("aria-sort")]);
      const scrolled = own.querySelector(".tall")?.scrollTop;
      own.replaceChildren(...[...part.childNodes].map((node) => document.importNode(node, true)));
      taken.set(own, html);
      for (const [cell, direction] of sorted) {
        const heading = own.querySelectorAll("th")[cell];
        if (heading) sort(heading, direction === "descending");
      }
      if (scrolled) own.querySelector(".tall").scrollTop = scrolled;
    }
    charts = [...document.querySelectorAll(".chart")].filter((chart) => figures[chart.id]);
    return drawAll(!dark.matches);
  };
})();
