//! Draws the speeds as a bar chart in SVG, with one panel for rows and one for files.

use std::fmt::Write;

use crate::figures::{Section, is_own};
use crate::report::rate;

const WIDTH: f64 = 860.0;
const NAMES_WIDTH: f64 = 220.0;
/// The width of the figure after the longest bar.
const FIGURE_WIDTH: f64 = 100.0;
const BAR_HEIGHT: f64 = 16.0;
const LINE_HEIGHT: f64 = 22.0;
const OWN_COLOUR: &str = "#1f6f8b";
const OTHER_COLOUR: &str = "#a9b4bd";

/// The chart of all sections. Each panel has its own scale.
pub(crate) fn chart(sections: &[Section]) -> String {
    let (mut body, mut y) = (String::new(), 8.0);
    for (title, has_files) in [("rows per second", false), ("small files per second", true)] {
        let panel: Vec<&Section> = sections.iter().filter(|section| (section.files > 1) == has_files).collect();
        let rates =
            panel.iter().flat_map(|&section| section.entries.iter().map(|entry| rate(section, entry.seconds())));
        let most = rates.fold(0.0, f64::max);
        if most > 0.0 {
            y += LINE_HEIGHT;
            text(&mut body, 8.0, y, "font-weight=\"bold\"", title);
            for section in panel {
                y = group(&mut body, y, section, most);
            }
            y += LINE_HEIGHT;
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{y}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// Draws the bars of one set on one engine below `top`; returns the position below them.
fn group(body: &mut String, top: f64, section: &Section, most: f64) -> f64 {
    let mut y = top + LINE_HEIGHT + 6.0;
    text(body, 8.0, y, "fill=\"#555555\"", &format!("{}, {}", section.set, section.server));
    for entry in &section.entries {
        y += LINE_HEIGHT;
        let speed = rate(section, entry.seconds());
        let width = speed / most * (WIDTH - NAMES_WIDTH - FIGURE_WIDTH);
        let colour = if is_own(&entry.name) { OWN_COLOUR } else { OTHER_COLOUR };
        let base = y - BAR_HEIGHT + 4.0;
        let position = format!("x=\"{NAMES_WIDTH}\" y=\"{base:.1}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\"");
        // Writing to a string never fails.
        let _ = writeln!(body, "<rect {position} fill=\"{colour}\"/>");
        text(body, NAMES_WIDTH - 8.0, y, "text-anchor=\"end\"", &entry.name.replace('`', ""));
        text(body, NAMES_WIDTH + width + 6.0, y, "", &short(speed));
    }
    y
}

fn text(body: &mut String, x: f64, y: f64, attributes: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(body, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{text}</text>");
}

/// Formats a speed with two or three digits.
fn short(speed: f64) -> String {
    match speed {
        1e6.. => format!("{:.2} M", speed / 1e6),
        1e3.. => format!("{:.0} k", speed / 1e3),
        _ => format!("{speed:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{chart, short};
    use crate::figures::tests::section;

    #[test]
    fn length_of_a_bar_is_proportional_to_the_speed() {
        let svg = chart(&[section("orders-1m", "mariadb")]);
        // The loader is twice as fast as Spillway, so its bar has the whole width.
        assert!(svg.contains("width=\"270.0\"") && svg.contains("width=\"540.0\""), "{svg}");
        assert!(svg.contains(">500 k<") && svg.contains(">1.00 M<"), "{svg}");
        assert!(svg.contains("a &lt;loader&gt;") && !svg.contains("<loader>"), "{svg}");
        assert!(!svg.contains("small files"), "a panel has no bars: {svg}");
    }

    #[test]
    fn files_have_their_own_scale() {
        let mut small = section("small", "mariadb");
        small.files = 1_000;
        let svg = chart(&[section("orders-1m", "mariadb"), small]);
        assert_eq!(svg.matches("width=\"540.0\"").count(), 2, "{svg}");
    }

    #[test]
    fn speeds_are_short() {
        assert_eq!([1_234_567.0, 45_678.0, 21.4].map(short), ["1.23 M", "46 k", "21"]);
    }
}
