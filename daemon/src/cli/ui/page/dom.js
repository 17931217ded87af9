// Creates elements. Text from objects becomes text nodes only, never markup.

const SVG = "http://www.w3.org/2000/svg";

// Characters that control text or are invisible: a name must look like what it is.
const INVISIBLE =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** The text with invisible characters as escapes. */
export function shown(text) {
  return String(text).replace(
    INVISIBLE,
    (c) => "\\u{" + c.codePointAt(0).toString(16) + "}",
  );
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : shown(value));
  }
  for (const child of children.flat(9)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : shown(child));
  }
  return element;
}

/** An HTML element. Attributes whose name begins with "on" are listeners. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** The element with an id. */
export const $ = (id) => document.getElementById(id);

/** `1,234`. */
export const number = (n) => n.toLocaleString("en-US");

/** `1 node`, `3 nodes`. */
export function count(n, one) {
  const ending = /(s|x|ch)$/.test(one) ? "es" : "s";
  return `${number(n)} ${one}${n === 1 ? "" : ending}`;
}

/** The names, at most `max` of them. */
export function few(names, max = 4) {
  const rest = names.length - max;
  return names.slice(0, max).join(", ") + (rest > 0 ? ` and ${number(rest)} more` : "");
}

const tip = () => $("tip");

/** Shows a text beside the pointer. */
export function showTip(event, text) {
  const box = tip();
  box.textContent = shown(text);
  box.hidden = false;
  const { clientX: x, clientY: y } = event;
  const room = { x: innerWidth - box.offsetWidth - 8, y: innerHeight - box.offsetHeight - 8 };
  box.style.left = Math.max(4, Math.min(x + 14, room.x)) + "px";
  box.style.top = Math.max(4, y + 18 > room.y ? y - box.offsetHeight - 10 : y + 18) + "px";
}

/** Hides the text. */
export function hideTip() {
  tip().hidden = true;
}

/** Calls a function once, some time after the last request. */
export function later(ms, act) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, ms);
  };
}
