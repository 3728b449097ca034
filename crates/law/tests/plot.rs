//! Figures from plain numbers to files: what is on the page, where, and what is refused.
#![cfg(feature = "plot")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use foveate_law::plot::{
    Axis, Bar, BarLength, BreakdownFigure, BudgetLine, ErrorCostFigure, Estimate, Figure, Highlight,
    Interval, MeasuredPoint, PlotError, ProfileCurve, ProfileFigure, Scale, Series, Threshold, Unit, render,
};
use proptest::prelude::*;
use resvg::tiny_skia::{Pixmap, Rect};
use resvg::usvg::roxmltree::{Document, Node};
use resvg::usvg::{self, fontdb};

fn flops(label: &str) -> Axis {
    Axis { label: label.to_owned(), unit: Unit::Flops, scale: Scale::Log }
}

fn plain(label: &str) -> Axis {
    Axis { label: label.to_owned(), ..Axis::default() }
}

/// A product law close to the published reasoning scores.
fn law(params: f64, tokens: f64) -> f64 {
    0.590_771 * (params / 1e9).powf(-0.070_937) * tokens.powf(-0.015_102)
}

/// A law's curves for `sizes` in billions, at a cost of 2·N·V.
fn error_cost(sizes: &[f64]) -> ErrorCostFigure {
    let ladder = [1.0, 4.0, 16.0, 36.0, 64.0, 144.0, 576.0];
    let series = sizes
        .iter()
        .map(|&billions| {
            let params = billions * 1e9;
            let at = |tokens: f64| (2.0 * params * tokens, law(params, tokens));
            Series {
                label: format!("{billions:.3} B"),
                curve: ladder.map(at).to_vec(),
                band: Some(ladder.map(at).map(|(x, y)| (x, y - 0.01, y + 0.01)).to_vec()),
                points: ladder
                    .map(|tokens| MeasuredPoint { x: at(tokens).0, y: at(tokens).1, visual_tokens: tokens })
                    .to_vec(),
            }
        })
        .collect();
    ErrorCostFigure {
        title: "Error against cost & more".to_owned(),
        x: flops("prefill cost per image"),
        y: plain("error (1 − score)"),
        series,
        frontier: Some(vec![(1e9, 0.62), (14e9, 0.51), (8e12, 0.47)]),
        highlighted: Some(Highlight { x: 14e9, y: 0.51, label: "7 B with V = 1".to_owned() }),
        budgets: vec![BudgetLine { x: 20e9, label: "budget 20 GFLOP".to_owned() }],
        ..ErrorCostFigure::default()
    }
}

fn profile() -> ProfileFigure {
    let exponents = (0..=100).map(|step| f64::from(step) * 0.002);
    let points = exponents.map(|alpha| (alpha, 1.0 + 90.0 * (alpha - 0.07).powi(2))).collect();
    ProfileFigure {
        title: "Profile of α".to_owned(),
        x: plain("α (exponent of model size N)"),
        y: plain("sum of squares ÷ its minimum"),
        curves: vec![ProfileCurve { label: "floor D ≥ 0".to_owned(), points }],
        threshold: Some(Threshold { y: 1.16, label: "95 % threshold".to_owned() }),
        interval: Some(Interval { low: Some(0.028), high: None, label: "95 % interval".to_owned() }),
        estimate: Some(Estimate { x: 0.07, label: "estimate 0.070".to_owned() }),
    }
}

fn breakdown() -> BreakdownFigure {
    let bar = |label: &str, parts: [f64; 3]| Bar { label: label.to_owned(), parts: parts.to_vec() };
    BreakdownFigure {
        title: "Cost of one answer".to_owned(),
        label: "FLOPs of one answer".to_owned(),
        length: BarLength::Total,
        unit: Unit::Flops,
        part_names: ["vision tower", "prefill", "decode"].map(str::to_owned).to_vec(),
        bars: vec![bar("0.5 B, V = 1", [366e9, 51e9, 32e9]), bar("7 B, V = 16", [366e9, 924e9, 448e9])],
    }
}

fn text_of(node: &Node<'_, '_>) -> String {
    node.text().unwrap_or_default().trim().to_owned()
}

fn number(node: &Node<'_, '_>, attribute: &str) -> f64 {
    node.attribute(attribute).unwrap().parse().unwrap()
}

fn all<'a>(document: &'a Document<'a>, tag: &str) -> Vec<Node<'a, 'a>> {
    document.descendants().filter(|node| node.tag_name().name() == tag).collect()
}

fn find_text<'a>(document: &'a Document<'a>, words: &str) -> Node<'a, 'a> {
    let found = all(document, "text").into_iter().find(|node| text_of(node) == words);
    found.unwrap_or_else(|| panic!("{words:?} is not on the page"))
}

/// Boxes of all texts in pixels as a renderer lays them out with the bundled fonts.
fn text_boxes(svg: &str) -> Vec<(String, Rect)> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(include_bytes!("../assets/fonts/NotoSans-Regular-subset.ttf").to_vec());
    fonts.load_font_data(include_bytes!("../assets/fonts/NotoSans-SemiBold-subset.ttf").to_vec());
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).unwrap();
    let mut boxes = Vec::new();
    collect_texts(tree.root(), &mut boxes);
    boxes
}

fn collect_texts(group: &usvg::Group, boxes: &mut Vec<(String, Rect)>) {
    for node in group.children() {
        match node {
            usvg::Node::Group(group) => collect_texts(group, boxes),
            usvg::Node::Text(text) => {
                let words: String = text.chunks().iter().map(|chunk| chunk.text()).collect();
                boxes.push((words.trim().to_owned(), text.abs_bounding_box()));
            }
            _ => {}
        }
    }
}

/// Every text is large enough and on the page, and none touches another.
fn assert_legible(svg: &str) {
    let document = Document::parse(svg).unwrap();
    let page = document.root_element();
    let (width, height) = (number(&page, "width") as f32, number(&page, "height") as f32);
    for text in all(&document, "text") {
        // The page is drawn in tenths of a pixel.
        assert!(number(&text, "font-size") >= 120.0, "{:?} is below 12 px", text_of(&text));
    }
    let boxes = text_boxes(svg);
    assert!(boxes.len() > 5);
    for (index, (words, area)) in boxes.iter().enumerate() {
        let inside =
            area.left() >= 0.0 && area.top() >= 0.0 && area.right() <= width && area.bottom() <= height;
        assert!(inside, "{words:?} leaves the page: {area:?}");
        for (others, other) in &boxes[..index] {
            let apart = area.left() >= other.right()
                || other.left() >= area.right()
                || area.top() >= other.bottom()
                || other.top() >= area.bottom();
            assert!(apart, "{words:?} at {area:?} touches {others:?} at {other:?}");
        }
    }
}

#[test]
fn every_label_is_on_the_page() {
    let curves = "Error against cost & more|prefill cost per image|error (1 − score)|0.500 B|7.000 B|10 GFLOP|1 TFLOP|\
                  0.60|budget 20 GFLOP|7 B with V = 1|Model size N|Visual tokens V|576|best for the cost|95 % interval";
    let profiled =
        "Profile of α|α (exponent of model size N)|floor D ≥ 0|95 % threshold|95 % interval|estimate 0.070|→";
    let bars = "0.5 B, V = 1|vision tower|449 GFLOP|1.74 TFLOP|53 %|FLOPs of one answer";
    let cases = [
        (error_cost(&[0.5, 1.8, 4.0, 7.0]).svg(), curves),
        (profile().svg(), profiled),
        (breakdown().svg(), bars),
    ];
    for (svg, labels) in cases {
        let svg = svg.unwrap();
        let document = Document::parse(&svg).unwrap();
        for label in labels.split('|') {
            find_text(&document, label);
        }
        assert_eq!(all(&document, "title").len(), 1);
    }
}

#[test]
fn nothing_overlaps_even_with_many_series_and_long_words() {
    let many: Vec<f64> = (0..20).map(|index| 0.135 * 1.4f64.powi(index)).collect();
    let long = "words ".repeat(60);
    let mut crowded = error_cost(&many);
    crowded.title.clone_from(&long);
    crowded.x.label.clone_from(&long);
    crowded.y.label.clone_from(&long);
    crowded.words.frontier.clone_from(&long);
    crowded.highlighted = Some(Highlight { x: 1e12, y: 0.5, label: long.clone() });
    let budget = |x| BudgetLine { x, label: format!("a budget of {}", Unit::Flops.format(x)) };
    crowded.budgets = [0.5e12, 1e12, 2e12, 8e15].map(budget).to_vec();
    let mut long_bars = breakdown();
    long_bars.title.clone_from(&long);
    long_bars.part_names[0].clone_from(&long);
    long_bars.bars[1].label.clone_from(&long);
    let mut long_profile = profile();
    long_profile.curves[0].label = long;
    let figures = [
        error_cost(&[7.0]).svg(),
        error_cost(&[0.5, 1.8, 4.0, 7.0]).svg(),
        crowded.svg(),
        profile().svg(),
        long_profile.svg(),
        breakdown().svg(),
        BreakdownFigure { length: BarLength::Share, ..breakdown() }.svg(),
        long_bars.svg(),
    ];
    for svg in figures {
        assert_legible(&svg.unwrap());
    }
}

#[test]
fn costlier_is_further_right_and_worse_is_higher() {
    let points = [(1e9, 0.4), (1e10, 0.6), (1e11, 0.5)];
    let measured = |(x, y)| MeasuredPoint { x, y, visual_tokens: 4.0 };
    let figure = ErrorCostFigure {
        x: flops("cost"),
        series: vec![Series { points: points.map(measured).to_vec(), ..Series::default() }],
        ..ErrorCostFigure::default()
    };
    let svg = figure.svg().unwrap();
    let document = Document::parse(&svg).unwrap();
    let circles = all(&document, "circle");
    let centre = |index: usize| (number(&circles[index], "cx"), number(&circles[index], "cy"));
    // Each marker is a white rim and a disc on it.
    let (a, b, c) = (centre(0), centre(2), centre(4));
    assert!(a.0 < b.0 && b.0 < c.0, "{a:?} {b:?} {c:?}");
    assert!(((b.0 - a.0) - (c.0 - b.0)).abs() <= 1.0, "decades differ in width: {a:?} {b:?} {c:?}");
    assert!(b.1 < c.1 && c.1 < a.1, "{a:?} {b:?} {c:?}");
    assert!((c.1 - f64::midpoint(a.1, b.1)).abs() <= 1.0, "0.5 is not halfway: {a:?} {b:?} {c:?}");
    // A marker stands where its axis says.
    assert!((number(&find_text(&document, "10 GFLOP"), "x") - b.0).abs() <= 1.0);
}

#[test]
fn more_visual_tokens_make_a_larger_marker() {
    let svg = error_cost(&[1.0]).svg().unwrap();
    let document = Document::parse(&svg).unwrap();
    let circles = all(&document, "circle");
    let coloured = circles.iter().filter(|circle| circle.attribute("fill") == Some("#0072B2"));
    let mut markers: Vec<(f64, f64)> =
        coloured.map(|circle| (number(circle, "cx"), number(circle, "r"))).collect();
    markers.sort_by(|a, b| a.0.total_cmp(&b.0));
    // The seven measurements in order of cost, then the legend's key.
    assert_eq!(markers.len(), 8);
    assert!(markers[..7].windows(2).all(|pair| pair[1].1 > pair[0].1), "{markers:?}");
}

#[test]
fn parts_are_as_long_as_their_values() {
    let svg = breakdown().svg().unwrap();
    let document = Document::parse(&svg).unwrap();
    let boxes = all(&document, "rect");
    let lengths = |colour: &str| -> Vec<f64> {
        let same = boxes.iter().filter(|node| node.attribute("fill") == Some(colour));
        // The first box of a colour is its key in the legend.
        same.skip(1).map(|node| number(node, "width")).collect()
    };
    let (tower, prefill) = (lengths("#0072B2"), lengths("#E69F00"));
    assert!((tower[0] - tower[1]).abs() <= 1.0, "equal parts differ: {tower:?}");
    assert!((prefill[1] / tower[1] - 924.0 / 366.0).abs() < 0.01, "{prefill:?} {tower:?}");
    assert!((prefill[0] / tower[0] - 51.0 / 366.0).abs() < 0.01, "{prefill:?} {tower:?}");
}

#[test]
fn a_profile_that_shoots_up_is_cut_at_the_frame_and_shows_its_threshold() {
    let mut figure = profile();
    figure.curves[0].points[0].1 = 1e6;
    let svg = figure.svg().unwrap();
    let document = Document::parse(&svg).unwrap();
    for line in all(&document, "polyline") {
        for pair in line.attribute("points").unwrap().split_whitespace() {
            let (_, y) = pair.split_once(',').unwrap();
            assert!((0.0..=6000.0).contains(&y.parse::<f64>().unwrap()), "{pair} is off the page");
        }
    }
    // The minimum and the threshold are both well inside the numbered range.
    find_text(&document, "1.0");
    find_text(&document, "1.2");
}

#[test]
fn a_png_is_twice_the_size_and_its_words_have_ink() {
    let figure = error_cost(&[0.5, 7.0]);
    let image = Pixmap::decode_png(&figure.png().unwrap()).unwrap();
    assert_eq!((image.width(), image.height()), (1920, 1200));
    let boxes = text_boxes(&figure.svg().unwrap());
    let (_, title) = boxes.into_iter().find(|(words, _)| *words == figure.title).unwrap();
    let (left, right) = (2 * title.left() as u32, 2 * title.right() as u32);
    let (top, bottom) = (2 * title.top() as u32, 2 * title.bottom() as u32);
    let dark = |x: u32, y: u32| image.pixel(x, y).is_some_and(|pixel| pixel.red() < 100);
    let ink =
        (left..right).flat_map(|x| (top..bottom).map(move |y| (x, y))).filter(|&(x, y)| dark(x, y)).count();
    let area = ((right - left) * (bottom - top)) as usize;
    assert!(ink * 20 > area && ink * 2 < area, "{ink} of {area} pixels of the title are dark");
    let corner = image.pixel(2, 2).unwrap();
    assert_eq!((corner.red(), corner.alpha()), (255, 255));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let figure = error_cost(&[0.5, 1.8, 4.0]);
    assert_eq!(figure.svg().unwrap(), figure.clone().svg().unwrap());
    assert_eq!(breakdown().png().unwrap(), breakdown().png().unwrap());
}

#[test]
fn what_cannot_be_drawn_is_named() {
    let refused = |change: &dyn Fn(&mut ErrorCostFigure)| {
        let mut figure = error_cost(&[0.5, 7.0]);
        change(&mut figure);
        figure.svg().unwrap_err()
    };
    let error = refused(&|figure| figure.series[1].points[2].y = f64::NAN);
    assert_eq!(
        error.to_string(),
        "series \"7.000 B\", measurement 3, y: NaN cannot be drawn; allowed: finite numbers of magnitude below 1e100"
    );
    let error = refused(&|figure| figure.series[0].curve[0].0 = 0.0);
    assert!(matches!(error, PlotError::NotPositive { value: 0.0, .. }), "{error}");
    let error = refused(&|figure| figure.frontier = Some(vec![(-1.0, 0.5)]));
    assert!(error.to_string().starts_with("frontier point 1, x: -1 has no place"), "{error}");
    let error = refused(&|figure| figure.budgets[0].x = f64::INFINITY);
    assert!(error.to_string().starts_with("budget line \"budget 20 GFLOP\", x: inf"), "{error}");
    let error = refused(&|figure| figure.series = vec![Series::default(); 61]);
    assert!(matches!(error, PlotError::TooMany { found: 61, allowed: 60, .. }), "{error}");
    assert!(matches!(ErrorCostFigure::default().svg(), Err(PlotError::Empty { .. })));

    assert!(matches!(ProfileFigure::default().svg(), Err(PlotError::Empty { .. })));
    let mut figure = profile();
    figure.threshold = Some(Threshold { y: f64::NAN, label: String::new() });
    assert!(figure.svg().unwrap_err().to_string().starts_with("the threshold: NaN"));

    let mut figure = breakdown();
    figure.bars[0].parts[1] = -1.0;
    let error = figure.svg().unwrap_err().to_string();
    assert_eq!(error, "bar \"0.5 B, V = 1\", part \"prefill\": -1 cannot be stacked; allowed: 0 or more");
    figure.bars[0].parts.pop();
    assert!(matches!(figure.svg(), Err(PlotError::PartCount { found: 2, expected: 3, .. })));
    for bar in &mut figure.bars {
        bar.parts = vec![0.0; 3];
    }
    assert!(matches!(figure.svg(), Err(PlotError::Empty { .. })));
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn files_appear_whole_by_their_extension_and_replace_older_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (svg, png) = (folder.path().join("a.svg"), folder.path().join("b.PNG"));
    fs::write(&svg, "older").unwrap();
    render(&breakdown(), &svg).unwrap();
    render(&breakdown(), &png).unwrap();
    assert_eq!(fs::read_to_string(&svg).unwrap(), breakdown().svg().unwrap());
    assert_eq!(fs::read(&png).unwrap(), breakdown().png().unwrap());
    assert_eq!(names_in(folder.path()).len(), 2);
}

#[test]
fn a_failure_names_the_path_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["figure.pdf", "figure", ".svg"] {
        let error = render(&breakdown(), folder.path().join(name)).unwrap_err().to_string();
        assert!(error.contains(name) && error.ends_with("allowed: .svg, .png"), "{error}");
    }
    let missing = folder.path().join("missing").join("figure.svg");
    let error = render(&breakdown(), &missing).unwrap_err();
    assert!(matches!(error, PlotError::Write { .. }), "{error}");
    assert!(error.to_string().contains("missing"), "{error}");
    assert!(names_in(folder.path()).is_empty());

    // A folder in the way fails only at the rename, when the temporary file is already there.
    let occupied = folder.path().join("occupied.svg");
    fs::create_dir(&occupied).unwrap();
    assert!(matches!(render(&breakdown(), &occupied), Err(PlotError::Write { .. })));
    assert_eq!(names_in(folder.path()), ["occupied.svg"]);

    let kept = folder.path().join("kept.svg");
    fs::write(&kept, "older").unwrap();
    render(&BreakdownFigure::default(), &kept).unwrap_err();
    assert_eq!(fs::read_to_string(&kept).unwrap(), "older");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_numbers_and_words_give_a_well_formed_page_or_an_error(
        points in prop::collection::vec((any::<f64>(), any::<f64>(), any::<f64>()), 0..12),
        exponents in prop::collection::vec((-90i32..90, -90i32..90), 0..6),
        log_x in any::<bool>(),
        log_y in any::<bool>(),
        unit in prop::sample::select(vec![Unit::Flops, Unit::Seconds, Unit::Bytes, Unit::Plain]),
        words in any::<String>(),
    ) {
        let scale = |log| if log { Scale::Log } else { Scale::Linear };
        let curve: Vec<(f64, f64)> =
            exponents.iter().map(|&(x, y)| (10f64.powi(x), 3.0 * 10f64.powi(y))).collect();
        let drawn = |points| ErrorCostFigure {
            title: words.clone(),
            x: Axis { label: words.clone(), unit, scale: scale(log_x) },
            y: Axis { label: words.clone(), unit: Unit::Plain, scale: scale(log_y) },
            frontier: Some(curve.clone()),
            highlighted: curve.first().map(|&(x, y)| Highlight { x, y, label: words.clone() }),
            budgets: curve.iter().map(|&(x, _)| BudgetLine { x, label: words.clone() }).collect(),
            series: vec![Series { label: words.clone(), curve: curve.clone(), band: None, points }],
            ..ErrorCostFigure::default()
        };
        if !curve.is_empty() {
            let svg = drawn(Vec::new()).svg().unwrap();
            prop_assert!(Document::parse(&svg).is_ok());
        }
        let measured =
            points.into_iter().map(|(x, y, visual_tokens)| MeasuredPoint { x, y, visual_tokens }).collect();
        if let Ok(svg) = drawn(measured).svg() {
            prop_assert!(Document::parse(&svg).is_ok());
        }
    }
}
