use super::*;

fn intake(limits: SampleLimits) -> Intake {
    Intake::new(Arc::new(SeriesTable::new([7; 16])), limits)
}

fn labels(pairs: &[(&str, &str)]) -> LabelsBuilder {
    let mut b = LabelsBuilder::default();
    for (n, v) in pairs {
        b.push(n.as_bytes(), v.as_bytes());
    }
    b
}

#[test]
fn a_far_future_sample_is_refused_by_name_and_harms_no_other() {
    let intake = intake(SampleLimits::default());
    let mut a = intake.admit(TenantId::DEFAULT, 1_000_000_000);
    let id = a
        .define(b"raw", &mut labels(&[("__name__", "up"), ("job", "x")]))
        .unwrap();
    a.float(id, 1_000_000_000, 1.0, 0);
    a.float(id, 1_000_000_000 + 10 * 60_000 + 1, 2.0, 0);
    a.float(id, -1, 3.0, 0);
    a.float(id, 0, 4.0, 0);
    let (batch, outcome) = a.finish();
    assert_eq!(batch.floats.values, [1.0, 4.0]);
    assert_eq!((outcome.samples(), outcome.rejected_samples), (2, 2));
    let text = outcome.describe();
    assert!(
        text.contains(r#"up{job="x"}"#) && text.contains("600 s ahead"),
        "{text}"
    );
    assert!(text.contains("before 0 ms"), "{text}");
}

#[test]
fn limits_name_the_label() {
    let limits = SampleLimits {
        label_value_bytes_max: 5,
        labels_max: 2,
        ..SampleLimits::default()
    };
    let intake = intake(limits);
    let mut a = intake.admit(TenantId::DEFAULT, 0);
    assert!(
        a.define(b"1", &mut labels(&[("__name__", "m"), ("l", "123456")]))
            .is_none()
    );
    a.lost(3);
    assert!(
        a.define(b"2", &mut labels(&[("__name__", "m"), ("a", "1"), ("b", "2")]))
            .is_none()
    );
    a.lost(1);
    assert!(a.define(b"3", &mut labels(&[])).is_none());
    let (batch, outcome) = a.finish();
    assert!(batch.is_empty());
    assert_eq!(outcome.rejected_samples, 4);
    assert_eq!(outcome.rejects[0].samples, 3);
    assert!(
        outcome.describe().contains(r#"value of label "l" has 6 bytes"#),
        "{}",
        outcome.describe()
    );
    assert!(outcome.describe().contains("without labels"), "{}", outcome.describe());
}

#[test]
fn a_spelling_is_known_the_second_time() {
    let intake = intake(SampleLimits::default());
    let mut a = intake.admit(TenantId::DEFAULT, 0);
    assert_eq!(a.known(b"raw"), None);
    let id = a.define(b"raw", &mut labels(&[("__name__", "m")]));
    assert_eq!(a.known(b"raw"), id, "within the body too");
    a.float(id.unwrap(), 0, 1.0, 0);
    let (batch, _) = a.finish();
    let id = Some(batch.floats.series[0]);
    assert_eq!(intake.admit(TenantId::DEFAULT, 0).known(b"raw"), id);
    assert_eq!(
        intake.admit(TenantId::OVERSEER, 0).known(b"raw"),
        None,
        "spellings belong to a tenant"
    );
}

#[test]
fn a_used_up_budget_is_told_once_for_the_tenant_and_for_each_metric() {
    let refused = |limits: SampleLimits, names: &[&[u8]]| {
        let intake = intake(limits);
        let mut a = intake.admit(TenantId::DEFAULT, 0);
        for (n, name) in names.iter().enumerate() {
            let mut l = LabelsBuilder::default();
            l.push(b"__name__", name);
            l.push(b"n", n.to_string().as_bytes());
            let id = a.define(&[n as u8], &mut l).unwrap();
            a.float(id, 0, 1.0, 0);
        }
        a.finish();
        let breaches = intake.guard().breaches();
        breaches
            .iter()
            .map(|b| (b.metric.clone(), b.refused))
            .collect::<Vec<_>>()
    };
    let tenant = SampleLimits {
        series_max: 1,
        ..SampleLimits::default()
    };
    assert_eq!(refused(tenant, &[b"a", b"b", b"c", b"a"]), [(String::new(), 3)]);
    let metric = SampleLimits {
        metric_series_max: 1,
        ..SampleLimits::default()
    };
    let names: [&[u8]; 5] = [b"a", b"a", b"b", b"a", b"b"];
    assert_eq!(refused(metric, &names), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
}

#[test]
fn rejections_are_counted_beyond_the_examples() {
    let intake = intake(SampleLimits {
        reject_examples_max: 2,
        ..SampleLimits::default()
    });
    let mut a = intake.admit(TenantId::DEFAULT, 0);
    for n in 0..5 {
        let subject = format!("line {n}");
        a.reject(Reject {
            reason: RejectReason::Malformed,
            subject,
            detail: "bad".into(),
            samples: 1,
        });
    }
    let (_, outcome) = a.finish();
    assert_eq!((outcome.rejects.len(), outcome.rejected_samples), (2, 5));
    assert!(outcome.describe().ends_with("and 3 more"), "{}", outcome.describe());
}

#[test]
fn what_is_refused_leaves_nothing_in_the_table() {
    let intake = intake(SampleLimits {
        metric_series_max: 3,
        reject_examples_max: 1000,
        ..SampleLimits::default()
    });
    let table = Arc::clone(intake.table());
    let define = |a: &mut Admission<'_>, n: &str| a.define(n.as_bytes(), &mut labels(&[("__name__", "m"), ("n", n)]));
    let empty = table.bytes();
    for round in 0..10 {
        let mut a = intake.admit(TenantId::DEFAULT, 0);
        for n in 0..100 {
            let id = define(&mut a, &format!("{round} {n}")).unwrap();
            a.float(id, 86_400_000, 1.0, 0);
            a.delta(id, 0, 86_400_000, 1.0);
            let bad = Histogram {
                count: -1.0,
                ..Histogram::default()
            };
            a.histogram(id, 0, bad, 0);
        }
        if round % 2 == 0 {
            // an answer that counts for nothing: a scrape over its limit
            let id = define(&mut a, "dropped").unwrap();
            a.float(id, 0, 1.0, 0);
            continue;
        }
        let (batch, outcome) = a.finish();
        assert!(batch.is_empty());
        assert_eq!(outcome.rejected_samples, 300);
        let named = outcome.describe().contains(&format!("m{{n=\"{round} 0\"}}"));
        assert!(named, "a refused series is told by its labels");
    }
    assert_eq!((table.len(TenantId::DEFAULT), table.bytes()), (0, empty));

    // the budget is for what is taken: the refused one between them does not count
    let mut a = intake.admit(TenantId::DEFAULT, 0);
    for (n, at_ms) in [
        ("a", 0),
        ("b", 86_400_000),
        ("c", 0),
        ("d", 0),
        ("e", 0),
        ("a", 1),
        ("e", 1),
    ] {
        let id = define(&mut a, n).unwrap();
        a.float(id, at_ms, 1.0, 5);
    }
    let (batch, outcome) = a.finish();
    assert_eq!(batch.floats.at_ms, [0, 0, 0, 1]);
    assert_eq!(batch.floats.start_ms, [5; 4]);
    assert_eq!((outcome.samples(), outcome.rejected_samples), (4, 3));
    assert!(
        outcome.describe().contains("limits.metric_series_max"),
        "{}",
        outcome.describe()
    );
    assert_eq!(table.len(TenantId::DEFAULT), 3);
}

#[test]
fn metadata_has_a_budget_and_costs_no_sample() {
    let limits = SampleLimits {
        metadata_max: 2,
        ..SampleLimits::default()
    };
    let intake = intake(limits);
    let send = |tenant: TenantId, metric: &str, help: &str| {
        let mut a = intake.admit(tenant, 0);
        let mut l = labels(&[("__name__", metric)]);
        let id = a.define(metric.as_bytes(), &mut l).unwrap();
        a.metadata(metric.as_bytes(), MetricKind::Gauge, help.as_bytes(), b"");
        a.float(id, 0, 1.0, 0);
        let (batch, outcome) = a.finish();
        assert_eq!((batch.floats.len(), outcome.rejected_samples), (1, 0));
        (batch.metadata.len(), outcome.describe())
    };
    let own = TenantId::DEFAULT;
    assert_eq!(send(own, "a", "one"), (1, String::new()));
    assert_eq!(send(own, "b", "two"), (1, String::new()));
    let (taken, text) = send(own, "c", "three");
    assert_eq!(taken, 0);
    assert!(text.contains("c: ") && text.contains("limits.metadata_max"), "{text}");
    // what is known may change, and another tenant has a budget of its own
    assert_eq!(send(own, "a", "another text").0, 1);
    assert_eq!(send(TenantId::OVERSEER, "c", "three").0, 1);
    assert_eq!(intake.table().metadata().total().0, 3);
}

#[test]
fn metadata_is_bounded_in_bytes() {
    let limits = SampleLimits {
        metadata_bytes_max: 3000,
        ..SampleLimits::default()
    };
    let intake = intake(limits);
    let send = |metric: &str, help: usize| {
        let mut a = intake.admit(TenantId::DEFAULT, 0);
        a.metadata(metric.as_bytes(), MetricKind::Gauge, "h".repeat(help).as_bytes(), b"");
        a.finish().0.metadata.len()
    };
    assert_eq!([send("a", 1000), send("b", 1000), send("c", 1000)], [1, 1, 0]);
    // one that becomes smaller makes room, also beyond the limit
    assert_eq!(
        [send("a", 100), send("c", 500), send("d", 900), send("b", 900)],
        [1, 1, 0, 1]
    );
}

#[test]
fn a_table_beyond_its_memory_takes_no_new_series_and_knows_the_old_ones() {
    let intake = intake(SampleLimits::default());
    let define = |name: &str| {
        let mut a = intake.admit(TenantId::DEFAULT, 0);
        if let Some(id) = a.define(b"", &mut labels(&[("__name__", name)])) {
            a.float(id, 0, 1.0, 0);
        }
        let (batch, outcome) = a.finish();
        (batch.floats.len() == 1, outcome.describe())
    };
    assert!(define("old").0);
    intake.table().bound(1);
    assert!(define("old").0);
    let (taken, text) = define("new");
    assert!(
        !taken && text.contains("store.memory_bytes") && text.contains("existing series go on"),
        "{text}"
    );
    intake.table().bound(usize::MAX);
    assert!(define("new").0);
}

#[test]
fn a_clock_known_to_be_behind_refuses_nothing_that_is_right() {
    let day = 24 * 3600 * 1000;
    let behind = intake(SampleLimits::default()).with_newest_ms(Some(1000 * day));
    let taken = |intake: &Intake, now_ms: i64, at_ms: i64| {
        let mut a = intake.admit(TenantId::DEFAULT, now_ms);
        let id = a.define(b"", &mut labels(&[("__name__", "m")])).unwrap();
        a.float(id, at_ms, 1.0, 0);
        a.finish().0.floats.len() == 1
    };
    assert!(taken(&behind, 10 * day, 1003 * day));
    assert!(!taken(&behind, 10 * day, 1400 * day));
    // less than a day behind, or put right: by the clock
    assert!(!taken(&behind, 1000 * day - 3_600_000, 1000 * day));
    assert!(!taken(&behind, 1010 * day, 1011 * day));
    assert!(!taken(&intake(SampleLimits::default()), 10 * day, 1003 * day));
}

#[test]
fn deltas_are_finite_and_in_order_of_their_ends() {
    let intake = intake(SampleLimits::default());
    let mut a = intake.admit(TenantId::DEFAULT, 1_000_000_000);
    let ids = ["a", "b"].map(|n| a.define(n.as_bytes(), &mut labels(&[("__name__", n)])).unwrap());
    for (series, at_ms, value) in [
        (0, 20, 2.0),
        (1, 30, 3.0),
        (0, 10, 1.0),
        (1, 20, f64::NAN),
        (1, 20, f64::INFINITY),
        (1, 20, f64::NEG_INFINITY),
        (1, 10, model::stale_nan()),
    ] {
        a.delta(ids[series], at_ms - 10, at_ms, value);
    }
    let (batch, outcome) = a.finish();
    let ends: Vec<i64> = batch.deltas.iter().map(|d| d.at_ms).collect();
    assert_eq!(ends, [10, 20, 10, 30]);
    assert!(model::is_stale(batch.deltas[2].value));
    assert_eq!((outcome.deltas, outcome.rejected_samples), (4, 3));
    let told = outcome.describe();
    assert!(
        told.contains("a delta of NaN at 20 ms: it must be a finite number"),
        "{told}"
    );
}
