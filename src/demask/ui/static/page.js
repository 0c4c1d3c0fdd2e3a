"use strict";
// What is live comes as finished parts of the page from the server; nothing is kept here, so a reload loses nothing.
(function () {
  const open = new Map();

  function listen(part) {
    if (open.has(part)) { return; }
    const source = new EventSource(part.dataset.live);
    source.addEventListener("message", function (event) { replace(part, event.data); });
    open.set(part, source);
  }

  function replace(part, html) {
    const held = part.contains(document.activeElement) ? document.activeElement : null;
    const typing = held && held.matches("input, textarea, select");
    if (typing || part.querySelector("form[data-changed]")) { part.pending = html; return; } // nobody is interrupted
    const id = held && held.id;
    const opened = Array.from(part.querySelectorAll("details[open][id]"), function (one) { return one.id; });
    part.pending = null;
    part.innerHTML = html;
    opened.forEach(function (name) { const one = document.getElementById(name); if (one) { one.open = true; } });
    if (id && document.getElementById(id)) { document.getElementById(id).focus({ preventScroll: true }); }
  }

  function release(part) {
    if (part && part.pending) { replace(part, part.pending); }
  }

  // A browser has six connections to one address: what is not looked at gives its own back.
  function listenToAll() { document.querySelectorAll("[data-live]").forEach(listen); }
  function close() {
    open.forEach(function (source) { source.close(); });
    open.clear();
  }
  document.addEventListener("visibilitychange", function () { document.hidden ? close() : listenToAll(); });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", listenToAll);

  function say(text, good) {
    let place = document.getElementById("message");
    if (!place) {
      place = document.createElement("div");
      place.id = "message";
      place.setAttribute("role", "alert");
      document.getElementById("content").prepend(place);
    }
    place.className = "message " + (good ? "good" : "bad");
    place.textContent = text;
    if (text && !good) { place.scrollIntoView({ block: "nearest" }); }
  }

  function values(form) {
    const found = {};
    new FormData(form).forEach(function (value, name) {
      if (name === form.dataset.lists) { found[name] = (found[name] || []).concat(value); }
      else if (typeof value === "string") { found[name] = value; }
    });
    return found;
  }

  async function post(address, body) {
    const answer = await fetch(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    const said = await answer.json();
    if (!answer.ok) { throw new Error(said.error || "that did not work"); }
    return said;
  }

  async function send(element, address, body) {
    const button = element.matches("form") ? element.querySelector("button:not([type])") : element;
    button.disabled = true;
    try {
      const said = await post(address, body);
      say("");
      if (said.go) { window.location = said.go; return; }
      if (element.matches("form")) {
        element.removeAttribute("data-changed");
        if (element.hasAttribute("data-clear")) { element.reset(); }
        if (said.saved) { say("Saved.", true); }
      }
    } catch (error) {
      say(error instanceof TypeError ? "The page's server does not answer. Is “demask ui” still running?" : error.message);
    } finally {
      button.disabled = false;
      if (element.closest("[data-live]")) { button.blur(); release(element.closest("[data-live]")); }
    }
  }

  document.addEventListener("click", function (event) {
    const button = event.target.closest("button[data-post]");
    if (!button || (button.dataset.ask && !window.confirm(button.dataset.ask))) { return; }
    const form = button.dataset.form && document.getElementById(button.dataset.form);
    send(button, button.dataset.post, form ? values(form) : JSON.parse(button.dataset.body || "{}"));
  });
  document.addEventListener("submit", function (event) {
    const form = event.target.closest("form[data-post]");
    if (!form) { return; }
    event.preventDefault();
    send(form, form.dataset.post, values(form));
  });
  document.addEventListener("input", function (event) {
    const form = event.target.closest("[data-live] form");
    if (form) { form.setAttribute("data-changed", ""); }
  });
  document.addEventListener("focusout", function (event) {
    const part = event.target.closest("[data-live]");
    setTimeout(function () { if (part && !part.contains(document.activeElement)) { release(part); } }, 0);
  });

  document.addEventListener("click", function (event) {
    const button = event.target.closest("[data-copy]");
    if (!button) { return; }
    navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent).then(function () {
      const before = button.textContent;
      button.textContent = "Copied";
      setTimeout(function () { button.textContent = before; }, 1500);
    });
  });

  // Files that are dropped go one after another, each as it is.
  const drop = document.querySelector(".drop");
  async function upload(files) {
    const list = drop.querySelector(".uploads");
    let taken = 0;
    for (const file of files) {
      const line = document.createElement("li");
      list.append(line);
      line.textContent = file.name + ": sending";
      try {
        if (file.size > Number(drop.dataset.most)) { throw new Error("too large; copy it into the folder by hand"); }
        const address = drop.dataset.upload + "?name=" + encodeURIComponent(file.name);
        const answer = await fetch(address, { method: "PUT", body: file });
        const said = await answer.json();
        if (!answer.ok) { throw new Error(said.error); }
        line.remove();
        taken += 1;
      } catch (error) {
        line.className = "bad";
        line.textContent = error.message.startsWith(file.name) ? error.message : file.name + ": " + error.message;
      }
    }
    if (taken) { post(drop.dataset.read, {}).catch(function (error) { say(error.message); }); }
  }
  if (drop) {
    ["dragover", "dragenter"].forEach(function (name) {
      document.addEventListener(name, function (event) { event.preventDefault(); drop.classList.add("over"); });
    });
    document.addEventListener("dragleave", function (event) { if (!event.relatedTarget) { drop.classList.remove("over"); } });
    document.addEventListener("drop", function (event) {
      event.preventDefault();
      drop.classList.remove("over");
      upload(event.dataTransfer.files);
    });
    drop.querySelector("input").addEventListener("change", function (event) {
      upload(Array.from(event.target.files)).then(function () { event.target.value = ""; });
    });
  }

  // The recipe and the command that a form stands for.
  const teach = document.getElementById("teach");
  if (teach) {
    const budget = document.getElementById("budget");
    const slider = budget.querySelector("[type=range]");
    const choices = JSON.parse(slider.dataset.choices);
    let asked = 0;
    const show = async function () {
      const choice = choices[Number(slider.value) || 0];
      teach.elements.budget.value = choice[0];
      budget.querySelector("output strong").textContent = choice[1] + ".";
      budget.querySelector("output span").textContent = choice[2];
      slider.setAttribute("aria-valuetext", choice[1]);
      budget.hidden = values(teach).preset !== "keep";
      asked += 1;
      const mine = asked;
      try {
        const said = await post(teach.dataset.preview, values(teach));
        if (mine === asked) {
          document.getElementById("recipe").textContent = said.recipe;
          document.getElementById("command").textContent = said.command;
          say("");
        }
      } catch (error) { if (mine === asked) { say(error.message); } }
    };
    let timer = 0;
    teach.addEventListener("input", function () { clearTimeout(timer); timer = setTimeout(show, 250); });
    show();
  }
})();
