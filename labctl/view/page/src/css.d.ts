// esbuild gives the text of *.shadow.css, for the shadow tree of the drawing.
declare module "*.shadow.css" {
  const text: string;
  export default text;
}
