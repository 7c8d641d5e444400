// Which part of the drawing the window shows. Pure.
import type { Point } from "./path.ts";

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

const MOST_ZOOM = 6; // pixels of the screen per pixel of the drawing

/** The smallest view of the shape of the window that shows all of `content`. */
export function fit(content: Box, window: Size): Box {
  const scale = Math.min(window.width / content.width, window.height / content.height, 2);
  const width = window.width / scale;
  const height = window.height / scale;
  return {
    x: content.x - (width - content.width) / 2,
    y: content.y - (height - content.height) / 2,
    width,
    height,
  };
}

export function scaleOf(view: Box, window: Size): number {
  return window.width / view.width;
}

/** Zoom by a factor (above 1: nearer) around a point that stays where it is. */
export function zoom(view: Box, factor: number, around: Point, content: Box, window: Size): Box {
  const widest = fit(content, window).width * 1.6;
  const width = Math.min(Math.max(view.width / factor, window.width / MOST_ZOOM), widest);
  const ratio = width / view.width;
  return {
    x: around.x - (around.x - view.x) * ratio,
    y: around.y - (around.y - view.y) * ratio,
    width,
    height: view.height * ratio,
  };
}

/** Move the view, in pixels of the drawing; a part of the drawing stays visible. */
export function pan(view: Box, dx: number, dy: number, content: Box): Box {
  return {
    ...view,
    x: clamp(view.x + dx, content.x - view.width * 0.8, content.x + content.width - view.width * 0.2),
    y: clamp(view.y + dy, content.y - view.height * 0.8, content.y + content.height - view.height * 0.2),
  };
}

/** The view with its middle at a point. */
export function centred(view: Box, at: Point): Box {
  return { ...view, x: at.x - view.width / 2, y: at.y - view.height / 2 };
}

export function middle(box: Box): Point {
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
}

/** A view between two views. */
export function between(from: Box, to: Box, share: number): Box {
  const mix = (one: number, other: number): number => one + (other - one) * share;
  return {
    x: mix(from.x, to.x),
    y: mix(from.y, to.y),
    width: mix(from.width, to.width),
    height: mix(from.height, to.height),
  };
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}
