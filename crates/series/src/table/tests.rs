use std::collections::BTreeSet;

use model::{Budget, LabelsBuilder, MatchOp, Matcher, StopReason, TenantId};
use proptest::prelude::*;

use super::hash::SpellingHash;
use super::*;

const T: TenantId = TenantId::DEFAULT;

fn table() -> SeriesTable {
    SeriesTable::new([7; 16])
}

const FEW: SeriesLimits = SeriesLimits { tenant: 1, metric: 1 };

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn add(t: &SeriesTable, pairs: &[(&str, &str)]) -> SeriesId {
    t.intern(T, labels(pairs).as_bytes(), None).unwrap()
}

fn select(t: &SeriesTable, matchers: &[(&str, MatchOp, &str)]) -> Vec<u32> {
    let m: Vec<Matcher> = matchers
        .iter()
        .map(|(n, op, v)| Matcher::new(*n, *op, *v).unwrap())
        .collect();
    t.select(T, &m, &Budget::unlimited())
        .unwrap()
        .iter()
        .map(|i| i.0)
        .collect()
}

#[test]
fn the_stable_hash_never_changes() {
    // files rely on these numbers
    assert_eq!(label_hash(b""), 0x314efb034b648055b3f62dbbd8559296);
    assert_eq!(
        label_hash(labels(&[("__name__", "up")]).as_bytes()),
        0x1ee663f7aef3be2257fd58643ac6865c
    );
}

#[test]
fn spellings_find_their_series() {
    let t = table();
    let mut builder = LabelsBuilder::default();
    let (mut ids, mut again) = (Vec::new(), Vec::new());
    {
        let mut s = t.session(T);
        for i in 0..5000 {
            let raw = format!(
                "spelling {i} of a series with some length to it, so that all lanes are used {}",
                i % 7
            );
            assert_eq!(s.known(raw.as_bytes()), None);
            builder.clear();
            builder.push(b"__name__", b"m");
            builder.push(b"i", i.to_string().as_bytes());
            ids.push(s.define(raw.as_bytes(), builder.build().unwrap(), None).unwrap());
        }
    }
    for _ in 0..2 {
        again.clear();
        let mut s = t.session(T);
        for i in 0..5000 {
            let raw = format!(
                "spelling {i} of a series with some length to it, so that all lanes are used {}",
                i % 7
            );
            again.push(s.known(raw.as_bytes()).unwrap());
        }
        assert_eq!(ids, again);
    }
    assert_eq!(t.len(T), 5000);
    assert_eq!(t.session(TenantId(9)).known(b"spelling 0"), None);
    assert_eq!(t.labels(ids[4999]), labels(&[("__name__", "m"), ("i", "4999")]));
    assert!(t.bytes() / 5000 < 400, "{}", t.bytes() / 5000);
}

#[test]
fn eight_spellings_are_remembered() {
    let t = table();
    let l = labels(&[("a", "b")]);
    let mut s = t.session(T);
    for i in 0..12u8 {
        s.define(&[i], l.as_bytes(), None).unwrap();
    }
    let known = (0..12u8).filter(|i| s.known(&[*i]).is_some()).count();
    assert_eq!(known, 8);
    assert_eq!(t.len(T), 1);
}

#[test]
fn a_full_tenant_keeps_its_series() {
    let t = table();
    let mut s = t.session(T);
    let a = s.define(b"a", labels(&[("a", "1")]).as_bytes(), Some(FEW)).unwrap();
    let full = s.define(b"b", labels(&[("a", "2")]).as_bytes(), Some(FEW)).unwrap_err();
    assert_eq!(full, TableFull::Tenant { tenant: T, limit: 1 });
    assert_eq!(s.define(b"c", labels(&[("a", "1")]).as_bytes(), Some(FEW)), Ok(a));
    assert_eq!(s.known(b"c"), Some(a));
    drop(s);
    assert!(
        t.intern(TenantId(2), labels(&[("a", "2")]).as_bytes(), Some(FEW))
            .is_ok()
    );
}

#[test]
fn tenants_do_not_see_each_other() {
    let t = table();
    let l = labels(&[("a", "1")]);
    let one = t.intern(TenantId(1), l.as_bytes(), None).unwrap();
    let two = t.intern(TenantId(2), l.as_bytes(), None).unwrap();
    assert_ne!(one, two);
    t.set_visible(&[two]);
    assert!(select(&t, &[("a", MatchOp::Equal, "1")]).is_empty());
    assert!(t.label_names(TenantId(1)).is_empty());
    assert_eq!(t.label_values(TenantId(2), "a"), ["1"]);
    assert_eq!((t.tenant_of(one), t.tenant_of(two)), (TenantId(1), TenantId(2)));
    assert_eq!(t.find(TenantId(2), l.as_bytes()), Some(two));
    assert_eq!(t.find(TenantId(3), l.as_bytes()), None);
}

#[test]
fn series_are_selected_once_visible() {
    let t = table();
    let a = add(&t, &[("__name__", "up"), ("job", "x")]);
    let b = add(&t, &[("__name__", "up"), ("job", "y"), ("zone", "")]);
    let c = add(&t, &[("__name__", "down"), ("zone", "z")]);
    assert!(select(&t, &[]).is_empty());
    t.set_visible(&[a, c]);
    assert_eq!(select(&t, &[("__name__", MatchOp::Equal, "up")]), [a.0]);
    t.set_visible(&[b, b, a]);
    assert_eq!(select(&t, &[]), [a.0, b.0, c.0]);
    assert_eq!(select(&t, &[("job", MatchOp::NotEqual, "x")]), [b.0, c.0]);
    assert_eq!(select(&t, &[("zone", MatchOp::Equal, "")]), [a.0, b.0]);
    assert_eq!(select(&t, &[("zone", MatchOp::NotEqual, "")]), [c.0]);
    assert_eq!(
        select(&t, &[("nothing", MatchOp::Regex, ".*"), ("job", MatchOp::Regex, "x|z")]),
        [a.0]
    );
    assert_eq!(t.label_names(T), ["__name__", "job", "zone"]);
    assert_eq!(t.label_values(T, "job"), ["x", "y"]);
    assert_eq!(t.label_names_of(&[a, c]), ["__name__", "job", "zone"]);
    assert_eq!(t.label_values_of("__name__", &[b]), ["up"]);
    let c = t.cardinality(T, 2);
    assert_eq!((c.series, c.label_pairs), (3, 5));
    assert_eq!(
        c.series_by_metric[0],
        CardinalityRow {
            name: "up".into(),
            value: 2
        }
    );
    assert_eq!(c.series_by_pair[0].name, "__name__=up");
}

#[test]
fn a_stopped_query_stops() {
    let t = table();
    let ids: Vec<SeriesId> = (0..50).map(|i| add(&t, &[("i", &i.to_string())])).collect();
    t.set_visible(&ids);
    let budget = Budget::unlimited();
    budget.stop(StopReason::Cancelled);
    assert_eq!(t.select(T, &[], &budget), Err(BudgetError::Cancelled));
}

#[test]
fn retired_ids_come_back_or_are_given_again() {
    let t = table();
    let ids: Vec<SeriesId> = (0..200)
        .map(|i| {
            let l = labels(&[("__name__", "m"), ("i", &i.to_string())]);
            t.session(T)
                .define(format!("raw {i}").as_bytes(), l.as_bytes(), None)
                .unwrap()
        })
        .collect();
    t.set_visible(&ids);
    t.retire(&ids[..150], 10);
    assert_eq!(select(&t, &[("__name__", MatchOp::Equal, "m")]).len(), 50);
    assert_eq!(t.label_values(T, "i").len(), 50);
    assert_eq!(t.session(T).known(b"raw 3"), None);
    assert_eq!(t.session(T).known(b"raw 170"), Some(ids[170]));
    assert_eq!(t.labels(ids[3]).get("i"), Some("3"));
    // three ways back
    assert_eq!(
        t.intern(T, labels(&[("__name__", "m"), ("i", "3")]).as_bytes(), None),
        Ok(ids[3])
    );
    t.revive(&[ids[4]]);
    t.set_visible(&[ids[5]]);
    t.reuse_up_to(9);
    assert_eq!((t.freed(), t.len(T)), (0, 200));
    t.reuse_up_to(10);
    assert_eq!((t.freed(), t.len(T)), (147, 53));
    assert_eq!(t.labels(ids[0]), Labels::empty());
    assert_eq!(t.labels(ids[3]).get("i"), Some("3"));
    assert_eq!(select(&t, &[("i", MatchOp::Equal, "5")]), [ids[5].0]);
    // freed numbers are given again, in ascending order, to other series
    let generation = t.generation(ids[0]);
    let new = add(&t, &[("__name__", "n"), ("i", "5")]);
    assert_eq!(new, ids[0]);
    assert_ne!(t.generation(new), generation);
    t.set_visible(&[new]);
    assert_eq!(select(&t, &[("i", MatchOp::Equal, "5")]), [ids[0].0, ids[5].0]);
    for (i, id) in ids.iter().enumerate().skip(150) {
        assert_eq!(t.session(T).known(format!("raw {i}").as_bytes()), Some(*id));
        assert_eq!(t.labels(*id).get("i"), Some(i.to_string().as_str()));
    }
    assert_eq!(add(&t, &[("__name__", "m"), ("i", "7")]), ids[1]);
}

#[test]
fn hashes_of_both_kinds_tell_neighbours_apart() {
    for hash in [SpellingHash::new([1; 16]), SpellingHash::new([1; 16]).portable()] {
        let mut seen = BTreeSet::new();
        for len in 0..200 {
            let bytes = vec![0u8; len];
            assert!(seen.insert(hash.hash(1, &bytes)));
            assert!(seen.insert(hash.hash(2, &bytes)));
            for bit in 0..len * 8 {
                let mut other = bytes.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(hash.hash(1, &other)));
            }
        }
        assert_ne!(hash.hash(1, b"x"), SpellingHash::new([2; 16]).hash(1, b"x"));
    }
}

#[test]
fn sessions_selections_and_marking_run_side_by_side() {
    let t = table();
    std::thread::scope(|scope| {
        for part in 0..2 {
            let t = &t;
            scope.spawn(move || {
                for round in 0..3 {
                    let mut s = t.session(T);
                    let mut new = Vec::new();
                    for i in 0..2000 {
                        let raw = format!("{part}/{i}");
                        match s.known(raw.as_bytes()) {
                            Some(id) => assert!(round > 0 && id.index() < 4000),
                            None => {
                                let l = labels(&[("part", &part.to_string()), ("i", &i.to_string())]);
                                new.push(s.define(raw.as_bytes(), l.as_bytes(), None).unwrap());
                            }
                        }
                    }
                    drop(s);
                    assert_eq!(new.len(), if round == 0 { 2000 } else { 0 });
                    t.set_visible(&new);
                }
            });
        }
        for _ in 0..20 {
            let found = select(&t, &[("part", MatchOp::Regex, "0|1"), ("i", MatchOp::NotRegex, "5.*")]);
            assert!(found.windows(2).all(|w| w[0] < w[1]));
        }
    });
    assert_eq!(select(&t, &[]).len(), 4000);
}

#[test]
fn many_series_are_sorted_slice_by_slice() {
    let t = table();
    let mut ids: Vec<SeriesId> = (0..7001u32)
        .map(|i| add(&t, &[("i", &(i.wrapping_mul(2_654_435_761) % 99_991).to_string())]))
        .collect();
    ids.dedup();
    t.sort_by_labels(&mut ids);
    let texts = t.labels_of(&ids);
    assert!(texts.windows(2).all(|w| w[0].as_bytes() <= w[1].as_bytes()));
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "__name__"])
}

fn op() -> impl Strategy<Value = MatchOp> {
    prop::sample::select(vec![
        MatchOp::Equal,
        MatchOp::NotEqual,
        MatchOp::Regex,
        MatchOp::NotRegex,
    ])
}

fn pattern() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "", "x", "y", "xy", "x|y", "(x|yy)", "x.*", "x.+", ".*", ".+", "xy?", "x*", "|x", "[xy]+", "x.*y", "(?i)X",
        "y{2}", "x|y.*", "(x)|(y)", "nothing",
    ])
}

proptest! {
    #[test]
    fn selection_agrees_with_looking_at_each(
        series in prop::collection::btree_set(prop::collection::btree_map(name(), "[xy]{1,3}", 1..4), 1..80),
        hidden in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        retired in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        matchers in prop::collection::vec((name(), op(), pattern()), 0..4),
        orders: bool,
    ) {
        let t = table();
        let all: Vec<(SeriesId, Labels)> = series
            .iter()
            .map(|pairs| {
                let l = Labels::from_pairs(pairs.iter());
                (t.intern(T, l.as_bytes(), None).unwrap(), l)
            })
            .collect();
        let hidden: BTreeSet<usize> = hidden.iter().map(|i| i.index(all.len())).collect();
        let retired: BTreeSet<usize> = retired.iter().map(|i| i.index(all.len())).collect();
        let mut show: Vec<SeriesId> = (0..all.len()).filter(|i| !hidden.contains(i)).map(|i| all[i].0).collect();
        if orders {
            show.reverse();
        }
        t.set_visible(&show);
        t.retire(&retired.iter().map(|i| all[*i].0).collect::<Vec<_>>(), 1);
        let m: Vec<Matcher> = matchers
            .iter()
            .map(|(n, op, p)| {
                let p = if matches!(op, MatchOp::Equal | MatchOp::NotEqual) { &p[..p.len().min(1)] } else { *p };
                Matcher::new(*n, *op, p).unwrap()
            })
            .collect();
        let found = t.select(T, &m, &Budget::unlimited()).unwrap();
        let expected: Vec<SeriesId> = (0..all.len())
            .filter(|i| !hidden.contains(i) && !retired.contains(i))
            .filter(|&i| m.iter().all(|m| m.matches(all[i].1.get(&m.name).unwrap_or(""))))
            .map(|i| all[i].0)
            .collect();
        prop_assert_eq!(found, expected);
        let mut sorted: Vec<SeriesId> = all.iter().map(|a| a.0).collect();
        let mut by_place = sorted.clone();
        t.sort_by_labels(&mut sorted);
        sort::by_labels(&t.index, &mut by_place);
        prop_assert_eq!(&by_place, &sorted);
        let texts: Vec<Labels> = t.labels_of(&sorted);
        prop_assert!(texts.windows(2).all(|w| w[0].as_bytes() < w[1].as_bytes()));
        for (id, l) in &all {
            prop_assert_eq!(&t.labels(*id), l);
            prop_assert_eq!(t.find(T, l.as_bytes()), Some(*id));
        }
    }

    #[test]
    fn any_bytes_have_a_spelling(raw: Vec<u8>, other: Vec<u8>) {
        let t = table();
        let mut s = t.session(T);
        let id = s.define(&raw, labels(&[("a", "1")]).as_bytes(), None).unwrap();
        prop_assert_eq!(s.known(&raw), (!raw.is_empty()).then_some(id));
        prop_assert_eq!(s.known(&other).is_some(), other == raw && !raw.is_empty());
    }
}

#[test]
fn a_metric_has_a_budget_and_a_label_to_blame() {
    let t = SeriesTable::new([1; 16]);
    let limits = SeriesLimits {
        tenant: 100,
        metric: 20,
    };
    let define = |metric: &str, user: usize| {
        let user = user.to_string();
        let l = labels(&[("__name__", metric), ("job", "api"), ("user", &user)]);
        t.intern(T, l.as_bytes(), Some(limits))
    };
    let ids: Vec<SeriesId> = (0..20).map(|user| define("hits", user).unwrap()).collect();
    assert_eq!(define("hits", 20), Err(TableFull::Metric { tenant: T, limit: 20 }));
    assert_eq!(define("hits", 7), Ok(ids[7]));
    define("misses", 0).unwrap();
    assert_eq!(t.blame(T, Some("hits")), None, "none is visible yet");
    t.set_visible(&ids);
    let blame = t.blame(T, Some("hits")).unwrap();
    assert_eq!(blame.series, 20);
    assert_eq!(blame.labels[0], ("user".to_owned(), 20));
    assert_eq!(t.blame(T, None).unwrap().series, 20);
    let many: Vec<SeriesId> = (0..20_000)
        .map(|n| {
            let l = labels(&[
                ("__name__", "many"),
                ("half", &(n / 2).to_string()),
                ("one", &n.to_string()),
            ]);
            t.intern(T, l.as_bytes(), None).unwrap()
        })
        .collect();
    t.set_visible(&many);
    let of_all = t.blame(T, Some("many")).unwrap();
    assert_eq!(of_all.series, 20_000);
    assert_eq!(
        of_all.labels[..2],
        [("one".to_owned(), 20_000), ("half".to_owned(), 10_000)]
    );
    assert_eq!(t.blame(T, Some("none")), None);
}

#[test]
fn the_version_tells_what_may_be_kept() {
    let t = table();
    let ids: Vec<SeriesId> = ["b", "c", "a"].map(|v| add(&t, &[("l", v)])).into();
    let look =
        |known: &[&str]| -> Vec<(String, Vec<SeriesId>)> { t.holders(T, "l", None, &t.pairs_in_order(T, "l"), known) };
    let before = t.version();
    assert_eq!(look(&[]), []);
    t.set_visible(&ids[..2]);
    let shown = t.version();
    assert!(shown > before);
    t.set_visible(&ids[..2]);
    assert_eq!(t.version(), shown, "they were visible already");
    t.set_visible(&ids);
    assert!(t.version() > shown);
    let of = |v: &str, n: usize| (v.to_owned(), vec![ids[n]]);
    assert_eq!(look(&[]), [of("a", 2), of("b", 0), of("c", 1)]);
    assert_eq!(look(&["0", "aa", "b", "d"]), [of("a", 2), of("c", 1)]);
    assert_eq!(look(&["a", "b", "c"]), []);
    let among = |ids: &[SeriesId], known: &[&str]| t.holders_among(T, "l", ids, known);
    assert_eq!(among(&ids[1..], &["0", "a"]), [of("c", 1)]);
    assert_eq!(among(&ids, &[]), [of("b", 0), of("c", 1), of("a", 2)]);
    let pairs = t.pairs_in_order(T, "l");
    let before = t.version();
    t.retire(&ids[..1], 5);
    let retired = t.version();
    assert!(retired > before);
    assert_eq!(look(&[]), [of("a", 2), of("c", 1)]);
    assert_eq!(t.reuse_up_to(5), 1);
    assert!(t.version() > retired);
    // the pair's number is given to another value: an order from before may name a known value, and never hides one
    let other = add(&t, &[("l", "z")]);
    t.set_visible(&[other]);
    let found = t.holders(T, "l", None, &pairs, &["c"]);
    assert_eq!(found.iter().map(|f| &*f.0).collect::<Vec<_>>(), ["a", "z", "c"]);
}
