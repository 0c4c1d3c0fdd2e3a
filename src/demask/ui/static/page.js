"use strict";
// What is live comes as finished parts of the page from the server; nothing is kept here, so a reload loses nothing.
(function () {
  const open = new Map();

  function listen(part) {
    if (open.has(part)) { return; }
    const source = new EventSource(part.dataset.live);
    source.addEventListener("message", function (event) { replace(part, event.data); });
    source.addEventListener("end", function () { source.close(); });
    open.set(part, source);
  }

  function replace(part, html) {
    const held = part.contains(document.activeElement) ? document.activeElement : null;
    const asking = held && (held.matches("input, textarea, select") || held.closest("dialog"));
    if (asking) { return; } // nobody is interrupted while typing
    const id = held && held.id;
    const opened = new Set(Array.from(part.querySelectorAll("details[open][id]"), function (one) { return one.id; }));
    part.innerHTML = html;
    opened.forEach(function (name) { const one = document.getElementById(name); if (one) { one.open = true; } });
    if (id && document.getElementById(id)) { document.getElementById(id).focus({ preventScroll: true }); }
  }

  // A browser has six connections to one address: what is not looked at gives its own back.
  function listenToAll() {
    document.querySelectorAll("[data-live]").forEach(listen);
  }
  function close() {
    open.forEach(function (source) { source.close(); });
    open.clear();
  }
  document.addEventListener("visibilitychange", function () { document.hidden ? close() : listenToAll(); });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", listenToAll);

  document.addEventListener("click", function (event) {
    const button = event.target.closest("[data-copy]");
    if (!button) { return; }
    const text = document.getElementById(button.dataset.copy).textContent;
    navigator.clipboard.writeText(text).then(function () {
      const before = button.textContent;
      button.textContent = "Copied";
      setTimeout(function () { button.textContent = before; }, 1500);
    });
  });
})();
