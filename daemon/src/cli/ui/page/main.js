// Puts the page together: the state, the drawings of it, and the keyboard.

import { $, count, h, hideTip, number } from "./dom.js";
import { follow } from "./feed.js";
import { drawFlow } from "./flow.js";
import { Matrix } from "./matrix.js";
import { build, filtered } from "./model.js";
import { drawSummary } from "./summary.js";
import { showDetails, showList, showProblems, showRouter } from "./details.js";
import { WhatIf, inWords } from "./whatif.js";

const state = {
  world: undefined,
  services: [],
  words: "",
  /** The services of a group or a trouble that was chosen. */
  scope: undefined,
  selected: undefined,
  colours: undefined,
};

const matrix = new Matrix($("matrix"), choose);
const whatif = new WhatIf($("whatif"), { changed: assumptionChanged, choose });

/** Draws everything again. */
function draw() {
  hideTip();
  if (!state.world) return;
  state.services = filtered(state.world, state.words, state.scope);
  drawSummary($("summary"), state.world, chooseTrouble);
  drawFlow($("flow"), state, chooseGroup);
  matrix.draw(state);
  drawScope();
}

function drawScope() {
  const { scope } = state;
  $("scope").hidden = !scope;
  if (!scope) return;
  $("scope").replaceChildren(`Only ${scope.label} `,
    h("button", { type: "button", onclick: () => setScope(undefined) }, "show all"));
}

function setScope(scope) {
  state.scope = scope;
  draw();
}

function aside() {
  $("aside").hidden = $("details").hidden && $("whatif").hidden;
  $("assume").setAttribute("aria-expanded", String(!$("whatif").hidden));
}

/** Opens the details of something. */
function openDetails(show) {
  const before = $("aside").hidden;
  $("details").hidden = false;
  aside();
  if (before) draw();
  return show($("details"));
}

function closeDetails() {
  $("details").hidden = true;
  $("details").dataset.of = "";
  state.selected = undefined;
  aside();
  draw();
}

const common = { choose, assume: (events) => whatif.assume(events), close: closeDetails };

/** Chooses one thing. */
function choose(kind, name) {
  state.selected = { kind, name };
  openDetails((target) => showDetails(target, { kind, name, world: state.world, ...common }));
  draw();
}

/** Chooses a box of the flow. */
function chooseGroup(kind, members) {
  if (kind === "router") return chooseRouter(members);
  if (members.length === 1) return choose(kind, members[0].name);
  if (kind === "service") {
    const names = new Set(members.map((member) => member.name));
    setScope({ names, label: `the ${number(names.size)} services of the group` });
    $("rows").focus();
    return undefined;
  }
  const names = members.map((member) => member.name);
  return openDetails((target) =>
    showList(target, { kind, title: count(names.length, kind), members: names, ...common }));
}

function chooseRouter(members) {
  if (members.length === 1) {
    const [router] = members;
    state.selected = { kind: "router", name: router.name };
    openDetails((target) => showRouter(target, { router, world: state.world, ...common }));
    draw();
    return;
  }
  const byName = new Map(members.map((router) => [router.name, router]));
  openDetails((target) => showList(target, { kind: "router", title: `${members.length} routers`,
    members: [...byName.keys()], close: closeDetails,
    choose: (_, name) => chooseRouter([byName.get(name)]) }));
}

/** Chooses an entry of what is wrong. */
function chooseTrouble({ kind, label, names }) {
  if (kind === "services") {
    setScope({ names: new Set(names), label: `${count(names.length, "service")}: ${label}` });
    if (names.length === 1) choose("service", names[0]);
    return;
  }
  const one = { nodes: "node", pools: "pool" }[kind];
  if (one && names.length === 1) return choose(one, names[0]);
  if (one) {
    return openDetails((target) =>
      showList(target, { kind: one, title: `${count(names.length, one)}: ${label}`,
        members: names, ...common }));
  }
  const more = kind === "problems" ? state.world.moreProblems : 0;
  return openDetails((target) =>
    showProblems(target, { title: label, entries: names, more, close: closeDetails }));
}

function assumptionChanged() {
  state.colours = whatif.isActive ? whatif.colours : undefined;
  document.body.classList.toggle("assumed", Boolean(state.colours));
  $("banner").hidden = !state.colours;
  if (state.colours) {
    $("banner").replaceChildren(h("b", {}, `What if: ${inWords(whatif)}? `), whatif.summary(), " ",
      h("button", { type: "button", onclick: () => whatif.close() }, "Back to now"));
    $("banner").className = state.colours.withdraws ? "banner bad" : "banner ok";
  }
  aside();
  draw();
}

function setStatus(look, text) {
  $("status").className = `status ${look}`;
  $("status").textContent = text;
}

function legend() {
  const entry = (look, text) => h("span", {}, h("i", { class: `swatch ${look}` }), text);
  $("legend").replaceChildren(
    entry("bgp", "by BGP"), entry("layer2", "by layer 2, one of these nodes"),
    entry("down", "session down or refused"), entry("gone", "would end"),
    entry("new", "would begin"));
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(dark ? "light" : "dark");
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = theme === "dark" ? "Light" : "Dark";
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // A browser may forbid to store it: then it lasts as long as the page.
  }
}

function firstTheme() {
  let theme;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    theme = null;
  }
  if (theme) setTheme(theme);
  else if (matchMedia("(prefers-color-scheme: dark)").matches) $("theme").textContent = "Light";
}

function toggleAssume() {
  if ($("whatif").hidden) {
    whatif.open();
    whatif.name.focus();
  } else {
    whatif.close();
  }
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (event.target === $("filter") && $("filter").value) return;
    if (!$("details").hidden) closeDetails();
    else if (!$("whatif").hidden) whatif.close();
    else if (state.scope) setScope(undefined);
    $("rows").focus();
    return;
  }
  if (event.target.closest?.("input, textarea, select")) return;
  const acts = { "/": () => $("filter").focus(), w: toggleAssume, t: toggleTheme };
  if (acts[event.key] && state.world) {
    event.preventDefault();
    acts[event.key]();
  }
}

function onPicture(event) {
  state.world = build(event);
  $("source").textContent = event.source;
  setStatus("live", event.live ? "live" : "follows the files");
  const { selected } = state;
  whatif.update(state.world);
  draw();
  if (selected && selected.kind !== "router" && !$("details").hidden) {
    const { kind, name } = selected;
    showDetails($("details"), { kind, name, world: state.world, ...common });
  }
  document.body.dataset.ready = "true";
}

$("filter").addEventListener("input", () => {
  state.words = $("filter").value;
  matrix.active = 0;
  draw();
});
$("filter").addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === "ArrowDown") $("rows").focus();
});
$("assume").addEventListener("click", toggleAssume);
$("theme").addEventListener("click", toggleTheme);
document.addEventListener("keydown", key);
addEventListener("resize", draw);
addEventListener("beforeprint", () => {
  draw();
  matrix.drawRows(true);
});
addEventListener("afterprint", draw);
firstTheme();
legend();
follow({
  picture: onPicture,
  trouble: (message) => setStatus("lost", message),
  status: setStatus,
});
