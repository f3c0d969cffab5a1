//! Walks along the keys of the layout and prints the effective settings.

use kymo_engine::model::Aggregation;

use super::{
    Config,
    kind::{Kind, quote},
    layout::{CLEANUP_ARCHIVE, CLEANUP_DELETE, Draft, DraftMetric, Foreign, Keys, describe},
};

/// Prints the settings as a file.
pub(super) fn print(config: &Config) -> String {
    let mut writer = Writer { text: "{".to_owned(), depth: 1 };
    describe(&mut writer, &mut draft(config));
    writer.text.push_str("\n}\n");
    writer.text
}

/// The draft that a file with all settings spelled out leads to.
pub(super) fn draft(config: &Config) -> Draft {
    let aggregation = |aggregation| match aggregation {
        Aggregation::None => None,
        Aggregation::Sum => Some("sum".to_owned()),
        Aggregation::Avg => Some("avg".to_owned()),
    };
    let metrics = config.metrics.iter().map(|(_, metric)| {
        let draft = DraftMetric { frequency: metric.frequency, aggregation: aggregation(metric.aggregation) };
        (metric.name.to_string(), draft)
    });
    Draft {
        addr: config.main.addr.clone(),
        jwt_public_key: config.main.jwt_public_key,
        https_cert_file: config.main.https.as_ref().map(|https| https.cert_file.clone()),
        https_key_file: config.main.https.as_ref().map(|https| https.key_file.clone()),
        auth: config.auth.clone(),
        backend_url: config.main.backend_url.clone(),
        user: config.main.user.clone(),
        group: config.main.group.clone(),
        metrics: metrics.collect(),
        retention: config.retention,
        memory_cap_bytes: config.memory_cap_bytes,
        checkpoints_directory: config.checkpoints_directory.clone(),
        cleanup_mode: if config.archive.is_fed { CLEANUP_ARCHIVE } else { CLEANUP_DELETE },
        archive: config.archive.clone(),
        storage: config.storage.clone(),
        nats: config.nats.clone(),
    }
}

/// A text that grows. `depth` sections are open.
struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    fn line(&mut self) {
        self.text.push('\n');
        self.text.push_str(&"  ".repeat(self.depth));
    }

    fn name(&mut self, name: &str) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        self.line();
        self.text.push_str(&quote(name));
        self.text.push_str(": ");
    }

    fn braced(&mut self, keys: impl FnOnce(&mut Self)) {
        self.text.push('{');
        self.depth += 1;
        keys(self);
        self.depth -= 1;
        if !self.text.ends_with('{') {
            self.line();
        }
        self.text.push('}');
    }
}

impl Keys for Writer {
    fn key<T>(&mut self, name: &str, kind: &impl Kind<T>, field: &mut T) {
        if let Some(json) = kind.print(field) {
            self.name(name);
            self.text.push_str(&json);
        }
    }

    fn required<T>(&mut self, name: &str, kind: &impl Kind<T>, field: &mut T) {
        self.key(name, kind, field);
    }

    fn foreign(&mut self, _: &str, _: Foreign) {}

    fn section(&mut self, name: &str, keys: impl FnOnce(&mut Self)) {
        self.name(name);
        self.braced(keys);
    }

    fn each<T: Default>(&mut self, items: &mut Vec<(String, T)>, keys: impl Fn(&mut Self, &mut T)) {
        for (name, item) in items {
            self.section(name, |writer| keys(writer, item));
        }
    }

    fn list<T: Default>(&mut self, name: &str, items: &mut Vec<T>, keys: impl Fn(&mut Self, &mut T)) {
        self.name(name);
        self.text.push('[');
        self.depth += 1;
        for (index, item) in items.iter_mut().enumerate() {
            self.text.push_str(if index == 0 { "" } else { "," });
            self.line();
            self.braced(|writer| keys(writer, item));
        }
        self.depth -= 1;
        if !items.is_empty() {
            self.line();
        }
        self.text.push(']');
    }
}
