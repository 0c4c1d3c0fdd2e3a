"use strict";
// A conversation with the trained model, the base model beside it. Both hear the same turns; replies are the trained one's.
(function () {
  const place = document.getElementById("ask");
  if (!place) { return; }
  const talk = place.querySelector(".talk"), form = place.querySelector("form");
  const field = document.getElementById("question"), halt = document.getElementById("halt");
  const NAMES = { trained: "after training", base: "before training" };
  const CHOSEN = {
    trained: "The gate is open: this is about the documents, so the trained model answers.",
    base: "The gate is shut: this is about something else, or brings a text that says something else than the documents. The model before training answers."
  };
  let turns = [], last = "", asking = null;

  function element(tag, name, text) {
    const made = document.createElement(tag);
    if (name) { made.className = name; }
    if (text !== undefined) { made.textContent = text; }
    return made;
  }

  function show(question, how, which) {
    const item = element("li");
    const said = element("p", "asked", question);
    said.dir = "auto";
    item.append(said);
    if (how) { item.append(element("p", "note", "asked " + how)); }
    const replies = element("div", "replies"), parts = {};
    which.forEach(function (name) {
      const reply = element("div", "reply " + name);
      reply.append(element("p", "who", NAMES[name]));
      parts[name] = element("p", "said");
      parts[name].dir = "auto";
      parts[name].append(element("span", "busy"));
      reply.append(parts[name]);
      replies.append(reply);
    });
    item.append(replies);
    talk.append(item);
    item.scrollIntoView({ block: "nearest" });
    return { item: item, parts: parts };
  }

  function fold(item, title, text) {
    const details = element("details"), summary = element("summary", "", title), body = element("div", "text", text);
    body.dir = "auto";
    details.append(summary, body);
    item.append(details);
  }

  async function ask(question, options) {
    if (asking) { return; }
    const which = document.getElementById("beside").checked ? ["trained", "base"] : ["trained"];
    const plain = !options.form && !options.document;
    const asked = (plain ? turns : []).concat([{ role: "user", content: question }]);
    const shown = show(question, options.how, which);
    const texts = {};
    let failed = "";
    asking = new AbortController();
    form.querySelector("button").disabled = true;
    halt.hidden = false;

    function take(said) {
      if (said.passage) { fold(shown.item, "The text that it should have come from (" + (said.passage.section || said.passage.id) + ")", said.passage.text); }
      if (said.turns) {
        fold(shown.item, "What was asked", said.turns.map(function (turn) { return turn.role + ": " + turn.content; }).join("\n\n"));
      }
      if (said.error) { failed = said.error; }
      if (!said.which) { return; }
      const part = shown.parts[said.which];
      if (said.chosen) { part.before(element("p", "note", CHOSEN[said.chosen])); return; }
      if (said.text !== undefined) { texts[said.which] = (texts[said.which] || "") + said.text; }
      if (said.whole !== undefined) { texts[said.which] = said.whole; }
      part.textContent = texts[said.which] || (said.whole !== undefined ? "(nothing)" : "");
      if (said.cut) { part.append(element("span", "note", " (cut short)")); }
    }

    try {
      const answer = await fetch(place.dataset.ask, {
        method: "POST", signal: asking.signal, headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ turns: asked, which: which, form: options.form, document: options.document })
      });
      if (!answer.ok) { throw new Error((await answer.json()).error); }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const read = await reader.read();
        if (read.done) { break; }
        const lines = (rest + read.value).split("\n");
        rest = lines.pop();
        lines.filter(Boolean).forEach(function (line) { take(JSON.parse(line)); });
      }
    } catch (error) {
      failed = error.name === "AbortError" ? "stopped" : error.message;
    }
    shown.item.querySelectorAll(".busy").forEach(function (one) { one.parentNode.textContent = "–"; });
    if (failed) { shown.item.append(element("p", "message bad", failed)); }
    if (plain && texts.trained) { turns = asked.concat([{ role: "assistant", content: texts.trained }]); }
    last = question;
    document.getElementById("forms").hidden = false;
    asking = null;
    halt.hidden = true;
    form.querySelector("button").disabled = false;
  }

  form.addEventListener("submit", function (event) {
    event.preventDefault();
    const question = field.value.trim();
    if (question && !asking) { field.value = ""; ask(question, {}); }
  });
  field.addEventListener("keydown", function (event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
  halt.addEventListener("click", function () { if (asking) { asking.abort(); } });
  document.getElementById("anew").addEventListener("click", function () {
    turns = [];
    talk.replaceChildren();
    document.getElementById("forms").hidden = true;
    field.focus();
  });
  place.addEventListener("click", function (event) {
    const button = event.target.closest("button");
    if (!button) { return; }
    if (button.dataset.question) { field.value = button.dataset.question; field.focus(); }
    if (button.dataset.formOf) { ask(last, { form: button.dataset.formOf, how: button.textContent }); }
    if (button.id === "with-document") { ask(last, { document: true, how: button.textContent }); }
  });
})();
