// Elements that several parts of the page make. Text is never markup.

/** Make an element with a class and a text. */
export function made(tag, kind, text = "") {
  return Object.assign(document.createElement(tag), { className: kind, textContent: text });
}

/** Make a button. */
export function button(text, onclick, kind = "") {
  return Object.assign(made("button", kind, text), { type: "button", onclick });
}

/** Make a button that is a picture; the picture is loaded once it is visible. */
export function pictureButton(src, alt, onclick) {
  const choice = button("", onclick);
  choice.append(Object.assign(new Image(), { loading: "lazy", alt, src }));
  return choice;
}

/** Make an SVG path of a kind (its class). */
export function path(d, kind) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
  made.setAttribute("d", d);
  made.setAttribute("class", kind);
  return made;
}

/** Make the same with a halo below it, which is seen on any picture. */
export const pathWithHalo = (d, kind) => [path(d, `halo ${kind}`), path(d, kind)];
