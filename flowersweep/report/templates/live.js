"use strict";
(() => {
  const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));

  // every section as the server sent it, before charts are drawn into it
  const parse = (text) => new DOMParser().parseFromString(text, "text/html");

  function showNow(boxes) {
    const list = document.querySelector("section[aria-labelledby=now] .numbers");
    if (!list) return;
    const box = ([name, number, remark]) => {
      const [outer, term, value, small] = ["div", "dt", "dd", "small"].map((tag) => document.createElement(tag));
      term.textContent = name;
      value.textContent = number;
      small.textContent = remark;
      value.append(small);
      outer.append(term, value);
      return outer;
    };
    list.replaceChildren(...boxes.map(box));
  }

  async function follow() {
    let version = meta("version");
    for (;;) {
      await wait(document.hidden ? 10000 : 2000);
      try {
        const answer = await fetch(meta("state"));
        if (!answer.ok) throw new Error(answer.status);
        const state = await answer.json();
        showNow(state.now);
        if (state.version !== version) {
          await window.takeOver(parse(await (await fetch(location.href)).text()));
        }
        version = state.version;
        document.body.classList.remove("lost");
      } catch {
        document.body.classList.add("lost"); // the server has ended, or is busy
      }
    }
  }

  function content(form) {
    const fields = {};
    for (const [name, value] of new FormData(form)) if (value !== "") fields[name] = value;
    return fields;
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.dataset.action) {
      for (const field of form.elements) if (field.value === "" && field.name) field.disabled = true; // a short address
      return;
    }
    event.preventDefault();
    if (form.dataset.confirm && !window.confirm(form.dataset.confirm)) return;
    const output = form.querySelector("output");
    output.textContent = "...";
    try {
      const answer = await fetch(form.dataset.action, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Token": meta("token") },
        body: JSON.stringify(content(form)),
      });
      const said = await answer.json();
      output.textContent = said.message;
      output.classList.toggle("wrong", !answer.ok);
    } catch {
      output.textContent = "The server does not answer.";
      output.classList.add("wrong");
    }
  });

  window.addEventListener("pageshow", () => {
    for (const field of document.querySelectorAll("form [disabled]")) field.disabled = false;
  });
  if (meta("state")) follow();
})();
