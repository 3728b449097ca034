import "uplot/dist/uPlot.min.css";
import "./style.css";

import { render } from "preact";

import { Page } from "./page";

const place = document.getElementById("page");
if (place) {
  render(<Page />, place);
}
