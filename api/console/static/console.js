// What the pages do beyond links and forms: they are told when something has changed, and ask for
// themselves again. Without scripts everything else works.
(function () {
  "use strict";
  var live = document.getElementById("live");
  var word = document.getElementById("live-word");
  var said = document.getElementById("said");
  var lastWord = Date.now(), connected = false, lost = 0, busy = false, dirty = false, refreshed = Date.now();
  var told = 0; // the index of a change that the page is to show
  var tried = Date.now(), asked = Date.now(), got = 0; // got: the page came while there was no stream
  var SILENT = 8000; // ms without a word, which comes every 2 s: then nobody knows

  // Dates in the viewer's own zone and form; the server writes UTC.
  function dates(root) {
    root.querySelectorAll("time[datetime]").forEach(function (t) {
      var at = new Date(t.getAttribute("datetime"));
      if (isNaN(at)) return;
      t.title = t.getAttribute("datetime");
      var text = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
      if (t.textContent !== text) t.textContent = text;
    });
  }

  function show(state, text) {
    if (!word) return;
    if (word.dataset.state === state && word.textContent === text) return;
    word.dataset.state = state;
    word.textContent = text;
  }

  function region() { return document.getElementById("region"); }

  function refresh() {
    var r = region();
    if (!r || !window.htmx || !r.hasAttribute("hx-get")) return;
    if (busy) { dirty = true; return; }
    busy = true; dirty = false;
    window.htmx.trigger(r, "refresh");
  }

  // A stream that was there once comes back by itself; one that never began is asked for again.
  function again() {
    if (Date.now() - tried < SILENT || document.hidden || !window.htmx || (live._htmx && live._htmx.sse)) return;
    tried = Date.now();
    window.htmx.ajax("GET", live.getAttribute("hx-sse:connect"), { source: live, swap: "none" }).catch(function () { /* look says so */ });
  }

  function look() {
    var silent = Date.now() - lastWord;
    if (!connected || silent > SILENT) {
      if (!lost) lost = lastWord;
      again();
      if (!document.hidden && Date.now() - asked > SILENT) { asked = Date.now(); refresh(); }
      if (Date.now() - got < 2 * SILENT) { show("behind", "Not told of changes; looks again every " + SILENT / 1000 + " s."); return; }
      show("lost", "Cut off for " + Math.round((Date.now() - lost) / 1000) + " s; trying again. What you see is old.");
      return;
    }
    lost = 0; got = 0;
    if (dirty || (busy && Date.now() - refreshed > 3000)) { show("behind", "Behind: waiting for the page."); return; }
    show("live", "Live");
  }

  document.addEventListener("DOMContentLoaded", function () { dates(document); });
  if (document.readyState !== "loading") dates(document);
  if (!live) return;

  live.addEventListener("htmx:sse:after:connection", function (e) {
    connected = e.detail && e.detail.connection && e.detail.connection.status === 200;
    lastWord = Date.now(); look();
  });
  ["htmx:sse:error", "htmx:sse:close"].forEach(function (name) {
    live.addEventListener(name, function () { if (!document.hidden) { connected = false; look(); } });
  });
  live.addEventListener("changed", function (e) {
    lastWord = Date.now(); connected = true;
    var parts = String(e.detail && e.detail.data || "").split(" ");
    var r = region();
    if (r) {
      var wants = (r.dataset.topics || "").split(" ");
      var hits = parts.slice(1).filter(function (t) { return wants.indexOf(t) >= 0; });
      if (hits.some(function (t) { return t !== "clock"; })) told = Number(parts[0]) || 0;
      if (hits.length) refresh();
    }
    look();
  });
  live.addEventListener("said", function (e) {
    try { said.textContent = JSON.parse(e.detail.data); } catch (_) { /* not for ears */ }
  });
  document.addEventListener("htmx:after:swap", function () {
    dates(document); refreshed = Date.now();
    if (lost) got = refreshed;
  });
  // What the page was told of, this node has: it is shown without asking a leader, who may be changing just now.
  document.addEventListener("htmx:config:request", function (e) {
    if (!e.target || e.target.id !== "region" || !told || document.querySelector(".mayold")) return;
    e.detail.ctx.request.headers["Havip-Told"] = String(told);
    told = 0;
  });
  document.addEventListener("htmx:finally:request", function (e) {
    var el = e.target;
    if (!el || el.id !== "region") return;
    busy = false; refreshed = Date.now();
    if (dirty) refresh();
    look();
  });
  document.addEventListener("htmx:error", function () { busy = false; });
  setInterval(look, 1000);
})();
