// Elements without a framework.
//
// 1. Text goes in as text, never as markup: keys and values come from anybody.
// 2. Styles are set through the object model, which the page's policy allows; no `style` attributes.
// 3. Rows keep their elements from one picture to the next, so that the focus stays where it is.

type Child = Node | string | null | undefined | false;
type Handler = (event: Event) => void;
type Attributes = Record<string, string | number | boolean | Handler | null | undefined>;

function fill(element: Element, attributes: Attributes, children: readonly Child[]): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child): child is Node | string => child !== null && child !== undefined && child !== false));
}

/** An element of HTML. Attributes that are functions listen. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  fill(element, attributes, children);
  return element;
}

/** An element of SVG. */
export function svg(tag: string, attributes: Attributes = {}, ...children: Child[]): SVGElement {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(element, attributes, children);
  return element;
}

/** Writes a text if it is another one, so that nothing is read aloud or laid out for nothing. */
export function write(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export interface Row<T> {
  readonly element: HTMLElement;
  update(item: T): void;
}

/** A list of rows that are made once for each key. */
export class Rows<T> {
  private readonly rows = new Map<string, Row<T>>();

  constructor(
    private readonly parent: HTMLElement,
    private readonly key: (item: T) => string,
    private readonly make: (item: T) => Row<T>,
  ) {}

  show(items: readonly T[]): void {
    const wanted = new Set<string>();
    let before: Element | null = null;
    for (const item of items) {
      const key = this.key(item);
      wanted.add(key);
      let row = this.rows.get(key);
      if (!row) {
        row = this.make(item);
        this.rows.set(key, row);
      }
      row.update(item);
      const place: Element | null = before ? before.nextElementSibling : this.parent.firstElementChild;
      if (place !== row.element) this.parent.insertBefore(row.element, place);
      before = row.element;
    }
    for (const [key, row] of this.rows) {
      if (wanted.has(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
  }
}

/** A table with these heads; a head that begins with `#` is of numbers. */
export function table(caption: string, heads: readonly string[]): { root: HTMLElement; body: HTMLElement } {
  const body = h("tbody");
  const cells = heads.map((head) =>
    head.startsWith("#") ? h("th", { scope: "col", class: "number" }, head.slice(1)) : h("th", { scope: "col" }, head),
  );
  const element = h("table", {}, h("caption", { class: "quiet" }, caption), h("thead", {}, h("tr", {}, ...cells)), body);
  return { root: h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, element), body };
}

/** Cells, the numbers among them to the right. */
export function cells(texts: readonly string[], numbersFrom: number): HTMLElement[] {
  return texts.map((text, index) => h("td", index >= numbersFrom ? { class: "number" } : {}, text));
}
