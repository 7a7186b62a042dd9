//! The samples as a picture: memory, files, threads and latency over time, with the faults behind them.

use crate::figures::{AppliedFault, Phase, Sample, Slope};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// Pixels.
const WIDTH: i32 = 1_400;
const LEFT: i32 = 76;
const RIGHT: i32 = 24;
const HEAD: i32 = 76;
const STRIP: i32 = 48;
const PANEL: i32 = 172;
/// Above a panel's plot, for its title.
const TITLE: i32 = 26;
const AXIS: i32 = 40;
/// A line of the list of faults.
const LINE: i32 = 22;
const COLUMNS: usize = 5;

const INK: RGBColor = RGBColor(31, 41, 55);
const FAINT: RGBColor = RGBColor(107, 114, 128);
const GRID: RGBColor = RGBColor(226, 229, 234);
const SHADE: RGBColor = RGBColor(255, 243, 224);
const FAULT: RGBColor = RGBColor(245, 173, 92);
const BLUE: RGBColor = RGBColor(29, 78, 216);
const PALE: RGBColor = RGBColor(147, 180, 244);
const GREEN: RGBColor = RGBColor(4, 120, 87);
const RED: RGBColor = RGBColor(190, 24, 60);

/// Everything that the picture shows.
pub struct Picture<'a> {
    pub title: String,
    pub subtitle: String,
    pub samples: &'a [Sample],
    pub faults: &'a [AppliedFault],
    /// Every kind of fault. A fault's number in the picture is its place here, from 1.
    pub kinds: &'a [&'static str],
    pub slope: Option<&'a Slope>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line, interrupted where a point has no value.
struct Line<'a> {
    name: &'a str,
    colour: RGBColor,
    points: Vec<(f64, Option<f64>)>,
}

pub fn draw(picture: &Picture, path: &Path) -> Result<()> {
    try_draw(picture, path).map_err(|error| anyhow!("{} cannot be drawn: {error}", path.display()))
}

fn try_draw(picture: &Picture, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let legend = picture.kinds.len().div_ceil(COLUMNS) as i32 * LINE + 28;
    let height = HEAD + STRIP + 4 * PANEL + AXIS + legend;
    let root = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let part = |top: i32, height: i32| root.clone().shrink((0, top), (WIDTH, height));
    root.draw_text(&picture.title, &text(22, INK), (LEFT, 18))?;
    root.draw_text(&picture.subtitle, &text(14, FAINT), (LEFT, 48))?;
    strip(picture, &part(HEAD, STRIP))?;
    let column =
        |of: fn(&Sample) -> Option<f64>| picture.samples.iter().map(|sample| (sample.at, of(sample))).collect();
    let one = |of| vec![Line { name: "", colour: BLUE, points: column(of) }];
    let mut memory = one(|sample| Some(sample.resident));
    let trend;
    if let Some(slope) = picture.slope {
        trend = format!("Theil-Sen fit of the samples at rest: {:+.1} MB an hour", slope.theil_sen);
        let end = slope.height + slope.theil_sen / 3_600.0 * (slope.to - slope.from);
        memory.push(Line {
            name: &trend,
            colour: RED,
            points: vec![(slope.from, Some(slope.height)), (slope.to, Some(end))],
        });
    }
    let top = HEAD + STRIP;
    panel(picture, &part(top, PANEL), "Resident memory, MB", &memory, Scale::FromZero)?;
    panel(picture, &part(top + PANEL, PANEL), "Open files", &one(|sample| Some(sample.files as f64)), Scale::FromZero)?;
    panel(
        picture,
        &part(top + 2 * PANEL, PANEL),
        "Threads",
        &one(|sample| Some(sample.threads as f64)),
        Scale::FromZero,
    )?;
    let latency = [
        Line {
            name: "worst of the second",
            colour: PALE,
            points: column(|sample| sample.latency.map(|(_, worst)| worst)),
        },
        Line { name: "median", colour: BLUE, points: column(|sample| sample.latency.map(|(median, _)| median)) },
        Line { name: "the commit itself, mean", colour: GREEN, points: column(|sample| sample.commit) },
    ];
    let title = "Latency: from a record's writing until its prediction is committed and read";
    panel(picture, &part(top + 3 * PANEL, PANEL + AXIS), title, &latency, Scale::Logarithmic)?;
    list(picture, &part(top + 4 * PANEL + AXIS, legend))?;
    root.present()?;
    Ok(())
}

fn text(size: i32, colour: RGBColor) -> TextStyle<'static> {
    ("Helvetica, Arial, sans-serif", size).into_font().color(&colour).pos(Pos::new(HPos::Left, VPos::Top))
}

fn centred(size: i32, colour: RGBColor) -> TextStyle<'static> {
    text(size, colour).pos(Pos::new(HPos::Center, VPos::Center))
}

impl Picture<'_> {
    fn end(&self) -> f64 {
        self.samples.last().map_or(1.0, |sample| sample.at).max(1.0)
    }

    /// Round, phase and the seconds between which it lasted.
    fn phases(&self) -> Vec<(usize, Phase, f64, f64)> {
        let mut phases: Vec<(usize, Phase, f64, f64)> = Vec::new();
        let mut before = 0.0;
        for Sample { at, round, phase, .. } in self.samples {
            match phases.last_mut() {
                Some((last, of, _, to)) if (*last, of.name()) == (*round, phase.name()) => *to = *at,
                _ => phases.push((*round, *phase, before, *at)),
            }
            before = *at;
        }
        phases
    }

    fn number(&self, fault: &AppliedFault) -> usize {
        self.kinds.iter().position(|kind| *kind == fault.name).map_or(0, |at| at + 1)
    }
}

/// The phases by name, and each fault by its number.
fn strip(picture: &Picture, area: &Area) -> Result<(), Box<dyn std::error::Error>> {
    let x = |at: f64| LEFT + (at / picture.end() * f64::from(WIDTH - LEFT - RIGHT)).round() as i32;
    for (round, phase, from, to) in picture.phases() {
        let (left, right) = (x(from), x(to));
        if phase == Phase::Faults {
            area.draw(&Rectangle::new([(left, 0), (right, STRIP)], SHADE.filled()))?;
        }
        let name = match right - left {
            100.. => format!("round {round}: {}", phase.name()),
            52.. => phase.name().to_owned(),
            _ if phase == Phase::Faults => round.to_string(),
            _ => String::new(),
        };
        area.draw_text(&name, &centred(13, INK), ((left + right) / 2, 11))?;
        area.draw(&PathElement::new([(left, 0), (left, STRIP)], GRID.stroke_width(1)))?;
    }
    let mut taken = LEFT;
    for fault in picture.faults {
        // At least three pixels, so that the shortest fault is visible.
        let (left, right) = (x(fault.from), x(fault.to).max(x(fault.from) + 3));
        area.draw(&Rectangle::new([(left, 23), (right, STRIP)], FAULT.mix(0.75).filled()))?;
        let number = picture.number(fault).to_string();
        let half = 4 * number.len() as i32;
        // The number stands beside the one before rather than over it, and is left out where that would move it far away.
        let place = ((left + right) / 2).max(taken + half);
        if place - (left + right) / 2 < 8 {
            area.draw_text(&number, &centred(11, INK), (place, 36))?;
            taken = place + half;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Scale {
    FromZero,
    /// Of milliseconds.
    Logarithmic,
}

/// One chart; the last one has the axis of time below it.
fn panel(
    picture: &Picture,
    area: &Area,
    title: &str,
    lines: &[Line],
    scale: Scale,
) -> Result<(), Box<dyn std::error::Error>> {
    let values = || lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    let largest = values().fold(1.0, f64::max);
    let is_last = area.dim_in_pixel().1 as i32 > PANEL;
    let mut builder = ChartBuilder::on(area);
    builder
        .margin_top(TITLE)
        .margin_right(RIGHT)
        .margin_bottom(if is_last { 0 } else { 8 })
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, if is_last { AXIS } else { 0 });
    let time = 0.0..picture.end() / 60.0;
    // A linear and a logarithmic chart are of different types, so a macro draws both.
    macro_rules! finish {
        ($chart:expr, $lowest:expr, $highest:expr, $label:expr) => {{
            let mut chart = $chart;
            let band = |from: f64, to: f64, colour: RGBAColor| {
                Rectangle::new([(from / 60.0, $lowest), (to / 60.0, $highest)], colour.filled())
            };
            let shaded = picture.phases().into_iter().filter(|(_, phase, ..)| *phase == Phase::Faults);
            chart.draw_series(shaded.map(|(.., from, to)| band(from, to, SHADE.to_rgba())))?;
            let shortest = picture.end() / 500.0;
            chart.draw_series(
                picture
                    .faults
                    .iter()
                    .map(|fault| band(fault.from, fault.to.max(fault.from + shortest), FAULT.mix(0.28))),
            )?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .axis_style(FAINT)
                .y_labels(5)
                .x_labels(16)
                .label_style(text(12, FAINT))
                .x_label_formatter(&|at| format!("{}", (at * 100.0).round() / 100.0))
                .y_label_formatter(&$label)
                .draw()?;
            for line in lines {
                for run in line.points.split(|(_, value)| value.is_none()) {
                    let points = run.iter().filter_map(|(at, value)| Some((at / 60.0, (*value)?.max($lowest))));
                    if let [(at, Some(value))] = run {
                        // A line through a single point would be invisible.
                        let point = (at / 60.0, value.max($lowest));
                        chart.draw_series([Circle::new(point, 2, line.colour.filled())])?;
                    }
                    chart.draw_series(LineSeries::new(points, line.colour.stroke_width(2)))?;
                }
            }
        }};
    }
    match scale {
        Scale::FromZero => {
            let highest = largest * 1.12;
            finish!(builder.build_cartesian_2d(time, 0.0..highest)?, 0.0, highest, |value: &f64| format!("{value:.0}"))
        }
        Scale::Logarithmic => {
            let highest = 10f64.powf(largest.log10().ceil()).max(1_000.0);
            let label =
                |value: &f64| if *value < 1_000.0 { format!("{value:.0} ms") } else { format!("{:.0} s", value / 1e3) };
            finish!(builder.build_cartesian_2d(time, (1.0..highest).log_scale())?, 1.0, highest, label)
        }
    }
    area.draw_text(title, &text(14, INK), (LEFT, 6))?;
    let mut left = WIDTH - RIGHT;
    for line in lines.iter().rev().filter(|line| !line.name.is_empty()) {
        // No font is loaded to measure the text by, so room is left for a wide one.
        left -= (line.name.chars().count() as f64 * 6.4) as i32;
        area.draw_text(line.name, &text(13, FAINT), (left, 7))?;
        area.draw(&PathElement::new([(left - 30, 13), (left - 8, 13)], line.colour.stroke_width(3)))?;
        left -= 50;
    }
    if is_last {
        let style = text(13, FAINT).pos(Pos::new(HPos::Right, VPos::Bottom));
        area.draw_text("time, minutes", &style, (WIDTH - RIGHT, PANEL + AXIS))?;
    }
    Ok(())
}

/// The list of faults by number.
fn list(picture: &Picture, area: &Area) -> Result<(), Box<dyn std::error::Error>> {
    let width = (WIDTH - LEFT - RIGHT) / COLUMNS as i32;
    for (at, kind) in picture.kinds.iter().enumerate() {
        let (left, top) = (LEFT + (at % COLUMNS) as i32 * width, 12 + (at / COLUMNS) as i32 * LINE);
        area.draw(&Rectangle::new([(left, top), (left + 22, top + 16)], FAULT.mix(0.75).filled()))?;
        area.draw_text(&(at + 1).to_string(), &centred(11, INK), (left + 11, top + 8))?;
        area.draw_text(kind, &text(13, INK), (left + 30, top + 2))?;
    }
    Ok(())
}
