(function () {
  "use strict";
  var form = document.getElementById("filters");
  if (form) {
    var page = 50, limit = page;
    var rows = Array.prototype.slice.call(document.querySelectorAll("#questions-table tbody tr"));
    var status = document.getElementById("shown"), more = document.getElementById("more");
    var texts = [];
    var wanted = function (name) {
      var field = form.elements[name];
      return field ? field.value : "";
    };
    var matches = function (row, index, find) {
      if (["outcome", "direction", "arm"].some(function (name) {
        return wanted(name) && row.getAttribute("data-" + name) !== wanted(name);
      })) { return false; }
      if (!find) { return true; }
      if (texts[index] === undefined) { texts[index] = row.textContent.toLowerCase(); }
      return texts[index].indexOf(find) !== -1;
    };
    var apply = function () {
      var find = wanted("find").trim().toLowerCase(), found = 0;
      rows.forEach(function (row, index) {
        var fits = matches(row, index, find);
        if (fits) { found += 1; }
        row.hidden = !fits || found > limit;
      });
      status.textContent = found + " of " + rows.length + " rows" + (found > limit ? ", the first " + limit + " shown" : "");
      more.hidden = found <= limit;
    };
    form.addEventListener("input", function () { limit = page; apply(); });
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    more.addEventListener("click", function () { limit += 200; apply(); });
    form.hidden = false;
    apply();
  }
  var opened = [];
  window.addEventListener("beforeprint", function () {
    opened = Array.prototype.slice.call(document.querySelectorAll("details[data-print]:not([open])"));
    opened.forEach(function (details) { details.open = true; });
  });
  window.addEventListener("afterprint", function () {
    opened.forEach(function (details) { details.open = false; });
  });
})();
