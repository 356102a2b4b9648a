// What a page owes to those who do not see it, or do not use a mouse. Rules that a program can check; a person finds more.

/** Runs in the page. Gives what is wrong, in words. */
export function faults() {
  const found = [];
  const say = (rule, element) => found.push(`${rule}: ${element.outerHTML.slice(0, 120)}`);
  const isShown = (element) => element.checkVisibility() && !element.closest("[aria-hidden=true]");
  const all = (selector) => [...document.querySelectorAll(selector)].filter(isShown);
  const text = (id) => id.split(" ").map((one) => document.getElementById(one)?.textContent ?? "").join("").trim();
  const name = (element) =>
    (element.getAttribute("aria-label") ?? "").trim() || text(element.getAttribute("aria-labelledby") ?? "") ||
    [...(element.labels ?? [])].map((label) => label.textContent).join("").trim() || (element.tagName === "INPUT" ? "" : element.textContent.trim());

  if (!document.documentElement.lang) found.push("the document has no language");
  if (!document.title) found.push("the document has no title");
  for (const [selector, number] of [["h1", 1], ["main", 1]]) {
    if (all(selector).length !== number) found.push(`there are ${all(selector).length} ${selector}`);
  }
  let level = 0;
  for (const heading of all("h1, h2, h3, h4")) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) say("a level of headings is left out", heading);
    level = own;
  }
  for (const element of all("button, a, input, select, [role=img], [role=region], section, canvas:not([role=img] *)")) {
    if (!name(element)) say("has no name", element);
  }
  for (const element of document.querySelectorAll("[tabindex]")) {
    if (element.tabIndex > 0) say("is out of the order of the page", element);
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of ids.filter((one, index) => ids.indexOf(one) !== index)) found.push(`the id ${id} is there twice`);
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"]) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      if (!document.getElementById(element.getAttribute(attribute))) say(`${attribute} leads nowhere`, element);
    }
  }
  for (const table of all("table")) {
    if (!table.caption) say("has no caption", table);
    if ([...table.querySelectorAll("th")].some((head) => !head.scope)) say("has a head without scope", table);
  }
  for (const element of all("button, select, input")) {
    const { width, height } = element.getBoundingClientRect();
    if (width < 8 || height < 15) say(`is ${width.toFixed(0)} by ${height.toFixed(0)} pixels`, element);
  }
  return found;
}

/** Runs in the page. Gives the texts that are too faint before their background. */
export function faint() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((part, index) => part * a + under[index] * (1 - a));
  const background = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const layer = rgba(getComputedStyle(at).backgroundColor);
      layers.push(layer);
      if (layer[3] > 0.99) break;
    }
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = new Map();
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim() !== "");
    if (!hasText || !element.checkVisibility({ visibilityProperty: true }) || element.disabled) continue;
    const style = getComputedStyle(element);
    const under = background(element);
    const [one, other] = [luminance(over(rgba(style.color), under)), luminance(under)].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    const size = Number.parseFloat(style.fontSize);
    const enough = size >= 24 || (size >= 18.6 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    if (contrast < enough) found.set(`${element.tagName}.${element.className}`, `${contrast.toFixed(2)} of ${enough}: ${element.outerHTML.slice(0, 100)}`);
  }
  return [...found.values()];
}
