// The way of the packet through the drawing: lists of points, and places on them. Pure.
export interface Point {
  readonly x: number;
  readonly y: number;
}

export function distance(one: Point, other: Point): number {
  return Math.hypot(one.x - other.x, one.y - other.y);
}

/** The points of a `points` attribute: "1,2 3,4". */
export function readPoints(text: string): Point[] {
  const numbers = (text.match(/-?\d+(?:\.\d+)?/g) ?? []).map(Number);
  const points: Point[] = [];
  for (let at = 0; at + 1 < numbers.length; at += 2) points.push({ x: numbers[at]!, y: numbers[at + 1]! });
  return points;
}

/** The line in the direction that begins nearer to `start`. */
export function directed(line: readonly Point[], start: Point): Point[] {
  const first = line[0];
  const last = line[line.length - 1];
  if (!first || !last) return [];
  return distance(first, start) <= distance(last, start) ? [...line] : [...line].reverse();
}

export function lengthOf(line: readonly Point[]): number {
  let length = 0;
  for (let at = 1; at < line.length; at += 1) length += distance(line[at - 1]!, line[at]!);
  return length;
}

/** The place after a share (0 to 1) of the length of a line. */
export function placeAt(line: readonly Point[], share: number): Point {
  let rest = lengthOf(line) * Math.min(Math.max(share, 0), 1);
  for (let at = 1; at < line.length; at += 1) {
    const from = line[at - 1]!;
    const to = line[at]!;
    const length = distance(from, to);
    if (length > 0 && rest <= length) {
      const part = rest / length;
      return { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
    }
    rest -= length;
  }
  return line[line.length - 1] ?? { x: 0, y: 0 };
}

/** A line from one place to another with right angles, as cables are drawn: down, across, down. */
export function elbow(from: Point, to: Point): Point[] {
  const y = (from.y + to.y) / 2;
  const isStraight = Math.abs(from.x - to.x) < 1 || Math.abs(from.y - to.y) < 1;
  return isStraight ? [from, to] : [from, { x: from.x, y }, { x: to.x, y }, to];
}

/** A slow start and a slow end. */
export function ease(share: number): number {
  return share < 0.5 ? 2 * share * share : 1 - (2 - 2 * share) ** 2 / 2;
}

/** The name that a cable has in the drawing: its two ends in alphabetical order. */
export function cableName(one: string, other: string): string {
  return one < other ? `${one} ${other}` : `${other} ${one}`;
}

/** The next of `places` in a direction, for the arrow keys: near, and not far to the side. */
export function neighbour<Name>(
  places: ReadonlyMap<Name, Point>,
  from: Name,
  direction: "left" | "right" | "up" | "down",
): Name | undefined {
  const start = places.get(from);
  if (!start) return undefined;
  const [dx, dy] = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1] }[direction] as [number, number];
  let best: Name | undefined;
  let least = Infinity;
  for (const [name, place] of places) {
    const ahead = (place.x - start.x) * dx + (place.y - start.y) * dy;
    const aside = Math.abs((place.x - start.x) * dy) + Math.abs((place.y - start.y) * dx);
    const cost = ahead + 2 * aside;
    if (name !== from && ahead > 1 && cost < least) [best, least] = [name, cost];
  }
  return best;
}

/** The first share (0 to 1) of a line. */
export function partOf(line: readonly Point[], share: number): Point[] {
  let rest = lengthOf(line) * Math.min(Math.max(share, 0), 1);
  const part: Point[] = line[0] ? [line[0]] : [];
  for (let at = 1; at < line.length; at += 1) {
    const length = distance(line[at - 1]!, line[at]!);
    if (rest < length) return [...part, placeAt([line[at - 1]!, line[at]!], rest / length)];
    part.push(line[at]!);
    rest -= length;
  }
  return part;
}
