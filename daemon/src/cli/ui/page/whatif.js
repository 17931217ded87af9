// What if: what is assumed, and what it would change. The server only plans; nothing is written.

import { count, few, h, later, number } from "./dom.js";
import { whatIf } from "./feed.js";

const VERBS = { drain: "drain node", loseNode: "lose node", losePeer: "lose the router of" };

const verbOf = (event) => Object.keys(event)[0];
const nameOf = (event) => Object.values(event)[0];

/** In words: `drain node a, lose node b`. */
export function inWords({ events, manifests }) {
  const words = events.map((event) => `${VERBS[verbOf(event)]} ${nameOf(event)}`);
  if (manifests.trim()) words.push("apply the manifests");
  return few(words, 3);
}

/** The answer of the server in the form that the drawings use. */
function colours(answer) {
  const nodes = new Map();
  const node = (name) => {
    if (!nodes.has(name)) nodes.set(name, { gone: 0, fresh: 0 });
    return nodes.get(name);
  };
  for (const service of answer.services) {
    for (const name of service.gone ?? []) node(name).gone += 1;
    for (const name of service.new ?? []) node(name).fresh += 1;
  }
  const services = new Map(answer.services.map((service) => [service.service, service]));
  return { ...answer, list: answer.services, services, nodes };
}

/** The form, and the assumption that it makes. */
export class WhatIf {
  constructor(form, { changed, choose }) {
    this.form = form;
    this.changed = changed;
    this.choose = choose;
    this.world = undefined;
    this.events = [];
    this.manifests = "";
    this.sequence = 0;
    this.build();
    this.askLater = later(250, () => this.ask());
  }

  get isActive() {
    return this.events.length > 0 || this.manifests.trim() !== "";
  }

  build() {
    this.kind = h("select", { "aria-label": "What happens" },
      h("option", { value: "drain" }, "drain node"),
      h("option", { value: "loseNode" }, "lose node"),
      h("option", { value: "losePeer" }, "lose router of"));
    this.options = h("datalist", { id: "whatif-names" });
    this.name = h("input", { list: "whatif-names", "aria-label": "Which one", autocomplete: "off",
      spellcheck: "false", placeholder: "name" });
    this.chips = h("div", { class: "chips" });
    this.slider = h("input", { type: "range", min: 0, value: 0, id: "whatif-slider" });
    this.sliderText = h("output", { for: "whatif-slider" }, "none");
    this.text = h("textarea", { rows: 5, spellcheck: "false", "aria-label": "Manifests",
      placeholder: "Paste manifests (YAML) that would be applied" });
    this.result = h("div", { class: "result", "aria-live": "polite" });
    this.form.replaceChildren(
      h("div", { class: "details-head" }, h("h2", {}, "What if…"),
        h("button", { type: "button", class: "close", "aria-label": "Close",
          onclick: () => this.close() }, "✕")),
      h("div", { class: "line" }, this.kind, this.name, this.options,
        h("button", { type: "submit" }, "Assume")),
      this.chips,
      h("label", { class: "line" }, h("span", {}, "Lose nodes"), this.slider, this.sliderText),
      this.text,
      h("div", { class: "line" },
        h("button", { type: "button", onclick: () => this.reset() }, "Back to now"),
        h("span", { class: "quiet" }, "Nothing is written.")),
      this.result,
    );
    this.kind.addEventListener("change", () => this.offer());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.name.value) return;
      this.assume([...this.events, { [this.kind.value]: this.name.value }]);
      this.name.value = "";
    });
    this.text.addEventListener("input", () => {
      this.manifests = this.text.value;
      this.askLater();
    });
    this.slider.addEventListener("input", () => this.slide());
  }

  /** A new picture: the names that can be chosen, and perhaps another answer. */
  update(world) {
    this.world = world;
    this.slider.max = world.nodes.length;
    this.offer();
    if (this.isActive) this.askLater();
  }

  offer() {
    if (!this.world) return;
    const of = this.kind.value === "losePeer" ? this.world.peers : this.world.nodes;
    this.options.replaceChildren(...of.map((one) => h("option", { value: one.name })));
  }

  /** Loses the first nodes, in the order of their names. */
  slide() {
    const lost = this.world.nodes.slice(0, Number(this.slider.value));
    const others = this.events.filter((event) => !event.loseNode);
    this.sliderText.value = lost.length ? count(lost.length, "node") : "none";
    this.assume([...others, ...lost.map((node) => ({ loseNode: node.name }))], true);
  }

  /** Assumes events. */
  assume(events, slid = false) {
    this.events = events;
    if (!slid) {
      const lost = events.filter((event) => event.loseNode).length;
      this.slider.value = lost;
      this.sliderText.value = lost ? count(lost, "node") : "none";
    }
    this.open();
    this.drawChips();
    this.askLater();
  }

  open() {
    this.form.hidden = false;
    this.changed();
  }

  /** Closes the form, and ends the assumption. */
  close() {
    this.form.hidden = true;
    this.reset();
  }

  reset() {
    this.events = [];
    this.manifests = "";
    this.text.value = "";
    this.slider.value = 0;
    this.sliderText.value = "none";
    this.drawChips();
    this.ask();
  }

  drawChips() {
    const chip = (event) => h("button", { type: "button", class: "chip",
      title: "No longer assume this",
      onclick: () => this.assume(this.events.filter((other) => other !== event)) },
      `${VERBS[verbOf(event)]} ${nameOf(event)} ✕`);
    const shown = this.events.slice(0, 8).map(chip);
    const more = this.events.length - shown.length;
    this.chips.replaceChildren(...shown, more > 0 ? `and ${number(more)} more` : "");
  }

  async ask() {
    const mine = ++this.sequence;
    this.colours = undefined;
    if (!this.isActive) {
      this.result.replaceChildren();
      this.changed();
      return;
    }
    try {
      const answer = await whatIf(this.events, this.manifests);
      if (mine !== this.sequence) return;
      this.colours = colours(answer);
      this.drawResult();
    } catch (error) {
      if (mine !== this.sequence) return;
      const lines = error.message.split("\n");
      this.result.replaceChildren(
        ...lines.map((line) => h("p", { class: "verdict-line bad" }, line)));
    }
    this.changed();
  }

  /** In one line. */
  summary() {
    const { list, links } = this.colours;
    const of = (...wanted) => list.filter(({ colour }) => wanted.includes(colour)).length;
    const sum = (key) => links.reduce((total, link) => total + link[key], 0);
    const parts = [];
    const add = (n, text) => n > 0 && parts.push(text);
    const [lost, moved, gained] = [of("lost"), of("moved"), of("gained")];
    add(lost, `${count(lost, "service")} announced by no node`);
    add(moved, `${count(moved, "service")} at another address`);
    add(gained, `${count(gained, "service")} announced again`);
    const shifted = of("fewer", "others", "more");
    add(shifted, `${count(shifted, "service")} on other nodes`);
    const routes = ["withdrawn", "announced", "changed"].map((key) => [sum(key), key]);
    const shown = routes.filter(([n]) => n > 0).map(([n, key]) => `${number(n)} ${key}`);
    add(shown.length, `routes: ${shown.join(", ")}`);
    return parts.join("; ") || "nothing would change";
  }

  drawResult() {
    const { list, errors, links, withdraws } = this.colours;
    const group = (colour, title) => {
      const names = list.filter((one) => one.colour === colour).map((one) => one.service);
      if (names.length === 0) return null;
      const button = (name) => h("button", { type: "button", class: "name service",
        onclick: () => this.choose("service", name) }, name);
      const rest = names.length - 12;
      return [h("h3", { class: `would-${colour}` }, `${title} (${number(names.length)})`),
        h("span", { class: "names" }, names.slice(0, 12).map(button),
          rest > 0 ? ` and ${number(rest)} more` : "")];
    };
    const flows = list.filter((one) => one.colour !== "lost" && one.movedAtLeast > 0);
    const least = Math.max(0, ...flows.map((one) => one.movedAtLeast));
    const most = Math.max(least, ...flows.map((one) => one.movedByRehash));
    const parts = [
      h("p", { class: `verdict-line ${withdraws ? "bad" : "ok"}` }, this.summary()),
      group("lost", "Announced by no node"),
      group("moved", "At another address"),
      group("gained", "Announced again"),
      flows.length
        ? h("p", {}, `Flows of ${count(flows.length, "service")} would reach another node: up to `
          + (least === most ? `${least} %.` : `${least} % with resilient hashing, ${most} % without.`))
        : null,
      errors.length ? h("h3", { class: "would-lost" }, "New errors") : null,
      errors.slice(0, 20).map((error) => h("p", {}, h("b", {}, error.object), ` ${error.message}`)),
      links.length ? this.linkTable(links) : null,
    ];
    this.result.replaceChildren(...parts.flat(2).filter(Boolean));
  }

  linkTable(links) {
    const cell = (sign, n) => h("td", {}, n ? `${sign}${number(n)}` : "");
    const row = (link) => h("tr", {}, h("td", {}, link.node), h("td", {}, link.peer),
      cell("+", link.announced), cell("−", link.withdrawn), cell("~", link.changed));
    const sorted = [...links].sort((a, b) => b.withdrawn - a.withdrawn);
    return [h("h3", {}, "Routes of sessions"),
      h("table", {}, h("tbody", {}, sorted.slice(0, 30).map(row))),
      links.length > 30 ? h("p", {}, `and ${number(links.length - 30)} more sessions`) : null];
  }
}
