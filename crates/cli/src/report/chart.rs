//! Bar charts as SVG.
//!
//! A drawing has a fixed size in its own units and is stretched to the width of the page. So it contains no text: labels are
//! HTML around it, and keep their size.

use super::text::escaped;

/// The height of a drawing, in its own units.
const HEIGHT: f64 = 100.0;

/// The width of a bar's place, in the drawing's units, and of the bar itself.
const PLACE: f64 = 10.0;
const BAR: f64 = 8.4;

/// A stacked bar chart.
pub(super) struct Chart {
    /// The title.
    pub(super) title: String,
    /// The layers, from the bottom.
    pub(super) layers: Vec<Layer>,
    /// Formats a value.
    pub(super) format: fn(f64) -> String,
}

/// A layer of the bars.
pub(super) struct Layer {
    class: &'static str,
    name: &'static str,
    values: Vec<f64>,
}

impl Layer {
    /// A layer with a style class, a name and one value per bar.
    pub(super) fn new(class: &'static str, name: &'static str, values: Vec<f64>) -> Self {
        Self { class, name, values }
    }

    fn is_empty(&self) -> bool {
        self.values.iter().all(|value| *value <= 0.0)
    }
}

impl Chart {
    /// The chart with title, legend and labels. Layers without a value are omitted.
    pub(super) fn html(&self, labels: &[String]) -> String {
        let layers: Vec<&Layer> = self.layers.iter().filter(|layer| !layer.is_empty()).collect();
        let totals: Vec<f64> =
            (0..labels.len()).map(|bar| layers.iter().map(|layer| layer.values[bar]).sum()).collect();
        let max = totals.iter().copied().fold(0.0, f64::max);
        if max <= 0.0 {
            return format!(
                "<figure><figcaption>{}</figcaption><p class=\"empty\">none</p></figure>\n",
                escaped(&self.title)
            );
        }
        let legend: String = match layers.len() {
            0 | 1 => String::new(),
            _ => layers
                .iter()
                .map(|layer| format!("<span class=\"key {}\">{}</span>", layer.class, layer.name))
                .collect(),
        };
        let width = PLACE * super::number(labels.len() as u64);
        let (top, title) = ((self.format)(max), escaped(&self.title));
        format!(
            "<figure>\n<figcaption>{title}<span class=\"legend\">{legend}</span></figcaption>\n\
             <div class=\"top\">{top}</div>\n\
             <svg viewBox=\"0 0 {width:.0} {HEIGHT:.0}\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{title}, at most {top}\">\n{}{}</svg>\n<div class=\"axis\">{}</div>\n</figure>\n",
            bars(&layers, max),
            self.hints(&layers, labels),
            axis(labels)
        )
    }

    /// Invisible areas that show the values of a bar under the pointer.
    fn hints(&self, layers: &[&Layer], labels: &[String]) -> String {
        let mut svg = String::new();
        for (bar, label) in labels.iter().enumerate() {
            let values = layers.iter().filter(|layer| layer.values[bar] > 0.0);
            let values: Vec<String> =
                values.map(|layer| format!("{} {}", (self.format)(layer.values[bar]), layer.name)).collect();
            if values.is_empty() {
                continue;
            }
            let x = PLACE * super::number(bar as u64);
            svg.push_str(&format!(
                "<rect class=\"hint\" x=\"{x:.0}\" width=\"{PLACE:.0}\" height=\"{HEIGHT:.0}\"><title>{}: {}</title></rect>\n",
                escaped(label),
                escaped(&values.join(", "))
            ));
        }
        svg
    }
}

/// One path per layer, with a rectangle per bar.
fn bars(layers: &[&Layer], max: f64) -> String {
    let mut heights = vec![0.0; layers.first().map_or(0, |layer| layer.values.len())];
    let mut svg = String::new();
    for layer in layers {
        let mut path = String::new();
        for (bar, value) in layer.values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            // A value that is not zero stays visible.
            let height = (value / max * HEIGHT).max(0.8);
            let x = PLACE * super::number(bar as u64) + (PLACE - BAR) / 2.0;
            let bottom: f64 = HEIGHT - heights[bar];
            path.push_str(&format!("M{x:.1} {bottom:.1}v-{height:.1}h{BAR}v{height:.1}z"));
            heights[bar] += height;
        }
        svg.push_str(&format!("<path class=\"{}\" d=\"{path}\"/>\n", layer.class));
    }
    svg
}

/// The first, the middle and the last label.
fn axis(labels: &[String]) -> String {
    let shown: Vec<&String> = match labels {
        [] => Vec::new(),
        [only] => vec![only],
        [first, last] => vec![first, last],
        [first, .., last] => vec![first, &labels[labels.len() / 2], last],
    };
    shown.iter().map(|label| format!("<span>{}</span>", escaped(label))).collect()
}
