import assert from "node:assert/strict";
import { test } from "node:test";
import {
  cableName,
  directed,
  ease,
  elbow,
  lengthOf,
  neighbour,
  partOf,
  placeAt,
  readPoints,
} from "../src/drawing/path.ts";
import { centred, fit, pan, scaleOf, zoom } from "../src/drawing/viewport.ts";

const corner = [
  { x: 0, y: 0 },
  { x: 10, y: 0 },
  { x: 10, y: 30 },
];

test("the points of an SVG polyline are read", () => {
  assert.deepEqual(readPoints("147.3,308.0 -1,5"), [
    { x: 147.3, y: 308 },
    { x: -1, y: 5 },
  ]);
  assert.deepEqual(readPoints(""), []);
});

test("a line begins at its end that is nearer to the packet", () => {
  assert.deepEqual(directed(corner, { x: 9, y: 29 })[0], { x: 10, y: 30 });
  assert.deepEqual(directed(corner, { x: 1, y: 1 }), corner);
});

test("places on a line follow its length, around corners", () => {
  assert.equal(lengthOf(corner), 40);
  assert.deepEqual(placeAt(corner, 0), { x: 0, y: 0 });
  assert.deepEqual(placeAt(corner, 0.5), { x: 10, y: 10 });
  assert.deepEqual(placeAt(corner, 2), { x: 10, y: 30 });
  assert.deepEqual(partOf(corner, 0.5), [
    { x: 0, y: 0 },
    { x: 10, y: 0 },
    { x: 10, y: 10 },
  ]);
  assert.deepEqual(partOf(corner, 1), corner);
  assert.deepEqual(placeAt([{ x: 3, y: 4 }], 0.5), { x: 3, y: 4 });
});

test("movement begins and ends slowly, and at its ends", () => {
  assert.deepEqual([ease(0), ease(0.5), ease(1)], [0, 0.5, 1]);
  assert.ok(ease(0.1) < 0.1 && ease(0.9) > 0.9);
});

test("a cable is named by its ends in alphabetical order", () => {
  assert.equal(cableName("node1/eth0", "fabric/node1"), "fabric/node1 node1/eth0");
  assert.equal(cableName("a/eth0", "b/eth0"), "a/eth0 b/eth0");
});

test("arrow keys go to the nearest machine in that direction", () => {
  const places = new Map([
    ["middle", { x: 0, y: 0 }],
    ["right", { x: 10, y: 1 }],
    ["far", { x: 30, y: 0 }],
    ["below", { x: 2, y: 20 }],
  ]);
  assert.equal(neighbour(places, "middle", "right"), "right");
  assert.equal(neighbour(places, "right", "right"), "far");
  assert.equal(neighbour(places, "middle", "down"), "below");
  assert.equal(neighbour(places, "middle", "up"), undefined);
  assert.equal(neighbour(places, "absent", "up"), undefined);
});

test("the whole drawing fits into the window, in the middle", () => {
  const content = { x: 0, y: 0, width: 100, height: 100 };
  const window = { width: 150, height: 50 };
  const view = fit(content, window);
  assert.deepEqual(view, { x: -100, y: 0, width: 300, height: 100 });
  assert.equal(scaleOf(view, window), 0.5);
});

test("a small drawing is not made larger than twice", () => {
  const view = fit({ x: 0, y: 0, width: 10, height: 10 }, { width: 1000, height: 1000 });
  assert.equal(view.width, 500);
});

test("zoom keeps the point under the pointer, and has limits", () => {
  const content = { x: 0, y: 0, width: 100, height: 100 };
  const window = { width: 100, height: 100 };
  const view = zoom(fit(content, window), 2, { x: 25, y: 75 }, content, window);
  const share = (25 - view.x) / view.width;
  assert.equal(share, (25 - fit(content, window).x) / fit(content, window).width);
  assert.equal(zoom(view, 1000, { x: 0, y: 0 }, content, window).width, 100 / 6);
  const far = zoom(view, 0.0001, { x: 0, y: 0 }, content, window);
  assert.equal(far.width, far.height);
  assert.ok(far.width < 200);
});

test("the drawing cannot be moved out of the window", () => {
  const content = { x: 0, y: 0, width: 100, height: 100 };
  const view = pan({ x: 0, y: 0, width: 50, height: 50 }, 1e6, -1e6, content);
  assert.ok(view.x < 100 && view.y + view.height > 0);
  assert.deepEqual(centred(view, { x: 50, y: 50 }), { x: 25, y: 25, width: 50, height: 50 });
});

test("without a cable, the packet goes at right angles", () => {
  assert.deepEqual(elbow({ x: 0, y: 0 }, { x: 10, y: 20 }), [
    { x: 0, y: 0 },
    { x: 0, y: 10 },
    { x: 10, y: 10 },
    { x: 10, y: 20 },
  ]);
  assert.deepEqual(elbow({ x: 0, y: 0 }, { x: 0, y: 20 }), [
    { x: 0, y: 0 },
    { x: 0, y: 20 },
  ]);
});
