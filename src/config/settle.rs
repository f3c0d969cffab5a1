//! From a draft to settings: the checks that need more than one key, and what follows from the absence of keys.

use kymo_engine::model::{Aggregation, Metric, Metrics};

use super::{
    Archive, Auth, Config, DEFAULT_ADDR, DEFAULT_CHECKPOINTS, DEFAULT_RETENTION, Https, JetStream, Main, Nats,
    addr::{self, Addr},
    duration,
    kind::{Servers, quote, shorten, subject_is_valid},
    layout::{CLEANUP_ARCHIVE, CLEANUP_DELETE, Draft, DraftMetric},
    reader::Reader,
};

/// What a file without any key says.
pub(super) fn blank() -> Draft {
    let Config { storage, nats, .. } = Config::default();
    Draft {
        addr: String::new(),
        jwt_public_key: None,
        https_cert_file: None,
        https_key_file: None,
        auth: Auth::default(),
        backend_url: None,
        user: None,
        group: None,
        metrics: Vec::new(),
        retention: Some(DEFAULT_RETENTION),
        memory_cap_bytes: None,
        checkpoints_directory: Some(DEFAULT_CHECKPOINTS.into()),
        cleanup_mode: CLEANUP_DELETE,
        archive: Archive::default(),
        storage,
        nats,
    }
}

/// Checks a draft; what is wrong goes to the reader's report, and then the settings are not to be used.
pub(super) fn settle(mut draft: Draft, reader: &mut Reader<'_>) -> Config {
    let addr = listen(&draft.addr, reader);
    let https = https(&mut draft, reader);
    let main = Main {
        addr,
        jwt_public_key: draft.jwt_public_key,
        https,
        backend_url: draft.backend_url.take(),
        user: draft.user.take(),
        group: draft.group.take(),
    };
    let metrics = metrics(&draft.metrics, reader);
    tell_metric_store(&draft, reader);
    fit_storage(&mut draft, reader);
    draft.archive.is_fed = draft.cleanup_mode == CLEANUP_ARCHIVE;
    check_nats(&mut draft.nats, reader);
    let Draft { retention, memory_cap_bytes, checkpoints_directory, archive, auth, storage, nats, .. } = draft;
    let config =
        Config { main, metrics, retention, memory_cap_bytes, checkpoints_directory, auth, archive, storage, nats };
    if let Some(warning) = config.open_door() {
        let place = reader.place("main.addr").unwrap_or(reader.top());
        reader.report.warn(place, "main.addr", warning);
    }
    config
}

/// Both files or none.
fn https(draft: &mut Draft, reader: &mut Reader<'_>) -> Option<Https> {
    match (draft.https_cert_file.take(), draft.https_key_file.take()) {
        (Some(cert_file), Some(key_file)) => Some(Https { cert_file, key_file }),
        (None, None) => None,
        (cert, _) => {
            let keys = ["main.https-cert-file", "main.https-key-file"];
            let (given, missing) = if cert.is_some() { (keys[0], keys[1]) } else { (keys[1], keys[0]) };
            let place = reader.place(given).unwrap_or(reader.top());
            reader.report.problem(place, given, format!("is of no use alone: set '{missing}' too, or none of them"));
            None
        }
    }
}

fn listen(addr: &str, reader: &mut Reader<'_>) -> String {
    const KEY: &str = "main.addr";
    let place = reader.place(KEY).or(reader.place("main")).unwrap_or(reader.top());
    if addr.is_empty() {
        let reason = format!("is empty: listening on {DEFAULT_ADDR}, which only this machine can reach; set host:port");
        reader.report.warn(place, KEY, reason);
        return DEFAULT_ADDR.to_owned();
    }
    match addr::check(addr) {
        Ok(Addr::Host) => {}
        Ok(Addr::AllInterfaces) => {
            let reason = "listening on all interfaces, IPv6 and IPv4; write \"0.0.0.0\" before it for IPv4 alone";
            reader.report.note(place, KEY, reason.to_owned());
        }
        Err(reason) => reader.report.problem(place, KEY, reason),
    }
    addr.to_owned()
}

fn metrics(drafts: &[(String, DraftMetric)], reader: &mut Reader<'_>) -> Metrics {
    match reader.place("metrics") {
        None => {
            let reason = "is missing: name each metric with its frequency and aggregation, others are not stored";
            reader.report.problem(reader.top(), "metrics", reason.to_owned());
        }
        Some(place) if drafts.is_empty() => {
            reader.report.warn(place, "metrics", "is empty: every sample is refused".to_owned());
        }
        Some(_) => {}
    }
    let mut list = Vec::new();
    for (name, draft) in drafts {
        let path = format!("metrics.{name}");
        let place = reader.place(&path).unwrap_or(reader.top());
        let aggregation = match draft.aggregation.as_deref() {
            None | Some("") => Aggregation::None,
            Some("sum") => Aggregation::Sum,
            Some("avg") => Aggregation::Avg,
            Some(unknown) => {
                let found = shorten(&quote(unknown));
                let reason = format!("expected \"sum\", \"avg\" or null, found {found}: components are not combined");
                reader.report.warn(place, &format!("{path}.aggregation"), reason);
                Aggregation::None
            }
        };
        let metric = Metric { name: name.as_str().into(), frequency: draft.frequency, aggregation };
        // The engine's own rules, asked for one metric at a time to know the line. A frequency that could not be read
        // is zero here and was reported.
        if draft.frequency > 0
            && let Err(error) = Metrics::new(vec![metric.clone()])
        {
            reader.report.problem(place, &path, shorten(&error.to_string()));
        }
        list.push(metric);
    }
    match Metrics::new(list) {
        Ok(metrics) => metrics,
        Err(error) => {
            if reader.report.is_sound() {
                reader.report.problem(reader.top(), "metrics", error.to_string());
            }
            Metrics::default()
        }
    }
}

fn tell_metric_store(draft: &Draft, reader: &mut Reader<'_>) {
    let Some(section) = reader.place("metric-store") else {
        let kept = duration::print(DEFAULT_RETENTION);
        reader.report.note(reader.top(), "metric-store", format!("is missing: data are kept for {kept}"));
        return;
    };
    let at = |key: &str| reader.place(&format!("metric-store.{key}"));
    let retention = at("retention-in-memory");
    let directory = at("checkpoints.directory");
    let (mode, archive) = (at("cleanup.mode"), at("cleanup.directory"));
    let report = &mut reader.report;
    if draft.retention.is_none() {
        let reason = "is zero: data are kept for ever".to_owned();
        report.note(retention.unwrap_or(section), "metric-store.retention-in-memory", reason);
    }
    if let (Some(place), Some(_)) = (directory, &draft.checkpoints_directory) {
        let reason = format!(
            "kymo keeps its data in 'storage.directory' ({}) and writes nothing here; a new store imports what is here",
            draft.storage.directory.display()
        );
        report.note(place, "metric-store.checkpoints.directory", reason);
    }
    let is_archived = draft.cleanup_mode == CLEANUP_ARCHIVE;
    match &draft.archive.location {
        None if is_archived => {
            let reason = "is needed with the mode \"archive\": where shall the days go?".to_owned();
            report.problem(mode.unwrap_or(section), "metric-store.cleanup.directory", reason);
        }
        Some(_) if !is_archived => {
            let reason =
                "nothing is moved there with the mode \"delete\"; what was archived earlier is read".to_owned();
            report.note(archive.unwrap_or(section), "metric-store.cleanup.directory", reason);
        }
        _ => {}
    }
}

fn fit_storage(draft: &mut Draft, reader: &mut Reader<'_>) {
    let storage = &mut draft.storage;
    // With a retention that could not be read the comparison would accuse the wrong key.
    if let Some(retention) = draft.retention.filter(|_| reader.report.is_sound())
        && storage.late_window > retention
    {
        if let Some(place) = reader.place("storage.late-window") {
            let (window, kept) = (duration::print(storage.late_window), duration::print(retention));
            let reason = format!("{window} is longer than data are kept, 'metric-store.retention-in-memory' is {kept}");
            reader.report.problem(place, "storage.late-window", reason);
        }
        storage.late_window = retention;
    }
    let limits = &mut storage.limits;
    let in_flight = limits.in_flight;
    // A default gives way, what was written does not.
    if reader.place("storage.limits.decoded-body").is_none() {
        limits.decoded_body = limits.decoded_body.min(in_flight);
    }
    for (name, body) in [("body", limits.body), ("decoded-body", limits.decoded_body)] {
        if body > in_flight {
            let keys = ["storage.limits.in-flight".to_owned(), format!("storage.limits.{name}")];
            let written = keys.iter().find_map(|key| Some((key, reader.place(key)?)));
            let (key, place) = written.unwrap_or((&keys[0], reader.top()));
            let reason =
                format!("a body of {body} bytes ('{name}') would never fit into {in_flight} bytes ('in-flight')");
            reader.report.problem(place, key, reason);
        }
    }
}

/// What belongs together in the sections of messaging.
fn check_nats(nats: &mut Nats, reader: &mut Reader<'_>) {
    let section = reader.place("nats").unwrap_or(reader.top());
    let (list, stream) = (reader.place("metric-store.nats-subscriptions"), reader.place("nats-jetstream"));
    let JetStream { stream: name, subject, partitions, durable, .. } = &nats.jetstream;
    let asks = !nats.subscriptions.is_empty() || name.is_some();
    if nats.address.as_deref().is_some_and(Servers::use_websockets) {
        let place = reader.place("nats.address").unwrap_or(section);
        let reason = "no messages come in: ws and wss are not supported, name servers as \"nats://host:4222\"";
        reader.report.warn(place, "nats.address", reason.to_owned());
        nats.address = None;
    } else if nats.address.is_none() && asks {
        let reason = "no messages come in: 'nats.address' names no server".to_owned();
        reader.report.warn(list.or(stream).unwrap_or(section), "nats", reason);
    } else if nats.address.is_some() && !asks {
        let reason = "no messages come in: name subjects in 'metric-store.nats-subscriptions' or 'nats-jetstream'";
        reader.report.warn(section, "nats.address", reason.to_owned());
    }
    if nats.username.is_some() != nats.password.is_some() {
        reader.report.warn(section, "nats", "user name and password are used only if both are given".to_owned());
    }
    if nats.tls_cert_file.is_some() != nats.tls_key_file.is_some() {
        let reason = "'tls-cert-file' and 'tls-key-file' go together: give both or none".to_owned();
        reader.report.problem(section, "nats", reason);
    }
    let Some(place) = stream else { return };
    // Numbers that could not be read are not missing.
    let is_sound = reader.report.is_sound();
    let mut wrong = |key: &str, reason: &str| {
        reader.report.problem(place, &format!("nats-jetstream.{key}"), reason.to_owned());
    };
    // The broker uses these names in subjects and in paths.
    let is_name = |text: &str| !text.is_empty() && !text.contains(|c: char| " \t\r\n.*>/\\".contains(c));
    match (name, subject) {
        (None, None) if partitions.is_empty() => return,
        (None, _) => wrong("stream", "is missing: name the stream to consume"),
        (_, None) => wrong("subject", "is missing: as \"ingest.{partition}.>\""),
        (Some(name), _) if !is_name(name) => wrong("stream", "a name has no blanks, dots, wildcards or slashes"),
        (_, Some(subject)) => {
            let has_place = subject.contains(JetStream::PARTITION);
            if !subject_is_valid(&subject.replace(JetStream::PARTITION, "0")) {
                wrong("subject", "is no subject: tokens with dots between them, without blanks");
            }
            if has_place && partitions.is_empty() && is_sound {
                wrong("partitions", "is missing: which ones stand for {partition}, as [0, 1, 2, 3]");
            } else if !has_place && !partitions.is_empty() {
                wrong("subject", "has no {partition} for the numbers of 'partitions'");
            }
        }
    }
    if !is_name(durable) {
        wrong("durable", "a name has no blanks, dots, wildcards or slashes");
    }
}
