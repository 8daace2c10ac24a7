use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Failure,
    arguments::{Arguments, WRONG},
    process::{self, Counts},
    setup::{self, Tools},
    tidy, ui,
    workspace::Workspace,
};

pub(crate) const HELP: &str = "\
Sets up what is missing, then checks and tests everything, each section to its end, whatever failed before it.

Usage: cargo xtask test [--only NAME,…] [--skip NAME,…] [--no-install] [--json] [--list]

  --only NAME,…   run these sections alone
  --skip NAME,…   leave these out
  --no-install    install nothing; tests skip what is not there, and say so
  --json          end with one line of JSON instead of words
  --list          name the sections

What was skipped is listed with its reason. The last line says `N passed, N failed` over all sections; a check that is no set of tests counts as one. The exit code
is 0 when nothing failed.
";

/// How long Overseer may take to say that it is ready: a debug build on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(20);

struct Section {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace, &Tools) -> Result<Counts, Failure>,
}

/// In the order they run: what fails fast first; the pages before the binary that embeds them.
const SECTIONS: &[Section] = &[
    Section {
        name: "format",
        about: "rustfmt",
        run: format,
    },
    Section {
        name: "tidy",
        about: "the house rules",
        run: house_rules,
    },
    Section {
        name: "ui",
        about: "types, unit tests and build of the pages",
        run: pages,
    },
    Section {
        name: "clippy",
        about: "clippy without a warning",
        run: clippy,
    },
    Section {
        name: "unit",
        about: "tests beside the code",
        run: unit,
    },
    Section {
        name: "doc",
        about: "examples in the documentation",
        run: doc,
    },
    Section {
        name: "black-box",
        about: "the real binary and real clients",
        run: black_box,
    },
    Section {
        name: "browser",
        about: "the pages in a browser",
        run: browser,
    },
    Section {
        name: "docs",
        about: "the configuration that the pages show",
        run: pages_of_docs,
    },
];

struct Done {
    name: &'static str,
    counts: Counts,
    took: Duration,
}

pub(crate) fn run(workspace: &Workspace, mut arguments: Arguments) -> Result<(), Failure> {
    let json = arguments.switch("--json");
    let install = !arguments.switch("--no-install");
    if arguments.switch("--list") {
        for section in SECTIONS {
            println!("{:<10} {}", section.name, section.about);
        }
        return arguments.end();
    }
    let (only, skip) = (names(arguments.value("--only")?)?, names(arguments.value("--skip")?)?);
    arguments.end()?;
    let chosen = SECTIONS
        .iter()
        .filter(|section| {
            only.as_ref()
                .is_none_or(|only| only.iter().any(|name| name == section.name))
        })
        .filter(|section| {
            skip.as_ref()
                .is_none_or(|skip| skip.iter().all(|name| name != section.name))
        });
    let began = Instant::now();
    header("setup", "what the tests need");
    let tools = setup::provide(workspace, install);
    for missing in &tools.missing {
        println!("missing: {missing}");
    }
    let mut done = Vec::new();
    // nobody who asked for an installation should take a skipped test for a passed one
    if install {
        let failed = tools.missing.len() as u64;
        done.push(Done {
            name: "setup",
            counts: Counts {
                passed: u64::from(failed == 0),
                failed,
                ..Counts::default()
            },
            took: began.elapsed(),
        });
    }
    for section in chosen {
        header(section.name, section.about);
        let start = Instant::now();
        let counts = (section.run)(workspace, &tools).unwrap_or_else(|failure| {
            println!("{failure}");
            Counts {
                failed: 1,
                ..Counts::default()
            }
        });
        let took = start.elapsed();
        println!(
            "-- {}: {} passed, {} failed, {}",
            section.name,
            counts.passed,
            counts.failed,
            seconds(took)
        );
        done.push(Done {
            name: section.name,
            counts,
            took,
        });
    }
    let mut all = Counts::default();
    done.iter().for_each(|section| all.add(section.counts.clone()));
    if json {
        println!("{}", as_json(&done, &all, began.elapsed()));
    } else {
        header("summary", "");
        for section in &done {
            let mark = if section.counts.failed == 0 { "ok    " } else { "FAILED" };
            let Counts { passed, failed, .. } = section.counts;
            println!(
                "{mark} {:<10} {passed:>5} passed {failed:>3} failed {:>9}",
                section.name,
                seconds(section.took)
            );
        }
        for why in reasons(&all.skipped) {
            println!("skipped: {why}");
        }
        println!(
            "in {}: {} passed, {} failed",
            seconds(began.elapsed()),
            all.passed,
            all.failed
        );
    }
    match all.failed {
        0 => Ok(()),
        _ => Err("there were failures".to_owned()),
    }
}

fn names(list: Option<String>) -> Result<Option<Vec<String>>, Failure> {
    let Some(list) = list else { return Ok(None) };
    let names: Vec<String> = list.split(',').map(str::to_owned).collect();
    for name in &names {
        if !SECTIONS.iter().any(|section| section.name == name) {
            let known: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
            return Err(format!(
                "{WRONG}there is no section {name:?}: {} is right",
                known.join(", ")
            ));
        }
    }
    Ok(Some(names))
}

fn header(name: &str, about: &str) {
    println!("\n== {name}{}{about}", if about.is_empty() { "" } else { ": " });
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

/// Each reason once, with how often it was given where that is more than once.
fn reasons(skipped: &[String]) -> Vec<String> {
    let mut counted = BTreeMap::new();
    skipped.iter().for_each(|why| *counted.entry(why).or_insert(0) += 1);
    let told = counted.into_iter().map(|(why, times)| match times {
        1 => why.clone(),
        _ => format!("{why} ({times} times)"),
    });
    told.collect()
}

fn as_json(done: &[Done], all: &Counts, took: Duration) -> String {
    let sections: Vec<String> = done
        .iter()
        .map(|section| {
            format!(
                r#"{{"name":"{}","passed":{},"failed":{},"seconds":{:.1}}}"#,
                section.name,
                section.counts.passed,
                section.counts.failed,
                section.took.as_secs_f64()
            )
        })
        .collect();
    format!(
        r#"{{"passed":{},"failed":{},"skipped":{},"seconds":{:.1},"sections":[{}]}}"#,
        all.passed,
        all.failed,
        all.skipped.len(),
        took.as_secs_f64(),
        sections.join(",")
    )
}

const ONE: Counts = Counts {
    passed: 1,
    failed: 0,
    skipped: Vec::new(),
};

fn cargo(workspace: &Workspace, tools: &Tools, arguments: &str) -> Command {
    let mut cargo = workspace.cargo();
    tools.lend(&mut cargo);
    cargo.args(arguments.split(' '));
    cargo
}

fn format(workspace: &Workspace, tools: &Tools) -> Result<Counts, Failure> {
    process::run(cargo(workspace, tools, "fmt --all --check"))?;
    Ok(ONE)
}

fn house_rules(workspace: &Workspace, _: &Tools) -> Result<Counts, Failure> {
    let problems = tidy::problems(workspace)?;
    for problem in &problems {
        println!("{problem}");
    }
    Ok(Counts {
        passed: u64::from(problems.is_empty()),
        failed: problems.len() as u64,
        ..Counts::default()
    })
}

fn pages(workspace: &Workspace, tools: &Tools) -> Result<Counts, Failure> {
    ui::install(workspace)?;
    let mut counts = Counts::default();
    for (script, is_tests) in [("check", false), ("test", true)] {
        let mut npm = workspace.command("npm");
        npm.current_dir(workspace.path("ui")).args(["run", "--silent", script]);
        tools.lend(&mut npm);
        let got = process::run_counting(npm)?;
        counts.add(if is_tests || got.failed > 0 { got } else { ONE });
    }
    ui::build(workspace)?;
    counts.add(ONE);
    Ok(counts)
}

fn clippy(workspace: &Workspace, tools: &Tools) -> Result<Counts, Failure> {
    process::run(cargo(
        workspace,
        tools,
        "clippy --locked --workspace --all-targets -- -D warnings",
    ))?;
    Ok(ONE)
}

/// The three parts of `cargo test --workspace`: chosen over the same packages, so that nothing is built twice.
fn unit(workspace: &Workspace, tools: &Tools) -> Result<Counts, Failure> {
    process::run_counting(cargo(
        workspace,
        tools,
        "test --locked --workspace --no-fail-fast --lib --bins",
    ))
}

fn doc(workspace: &Workspace, tools: &Tools) -> Result<Counts, Failure> {
    process::run_counting(cargo(
        workspace,
        tools,
        "test --locked --workspace --no-fail-fast --doc",
    ))
}

fn black_box(workspace: &Workspace, tools: &Tools) -> Result<Counts, Failure> {
    process::run_counting(cargo(
        workspace,
        tools,
        "test --locked --workspace --no-fail-fast --test *",
    ))
}

fn binary(workspace: &Workspace, tools: &Tools) -> Result<PathBuf, Failure> {
    // as the black-box tests built it: all of the workspace chosen, so that nothing is built twice
    process::run(cargo(workspace, tools, "build --locked --workspace --bins"))?;
    Ok(workspace.target_dir().join("debug/overseer"))
}

/// The browser tests know a server of their own making, for what is hard to bring about, and are given the real one.
fn browser(workspace: &Workspace, tools: &Tools) -> Result<Counts, Failure> {
    if tools.browser.is_none() {
        return Err("there is no browser to test with".to_owned());
    }
    ui::build(workspace)?;
    let against = |url: Option<&str>| {
        let mut node = workspace.command("node");
        node.arg("ui/tests/browser/run.mjs").env_remove("OVERSEER_URL");
        if let Some(url) = url {
            node.env("OVERSEER_URL", url);
        }
        tools.lend(&mut node);
        process::run_counting(node)
    };
    let mut counts = against(None)?;
    let server = Server::start(&binary(workspace, tools)?)?;
    counts.add(against(Some(&server.url))?);
    server.stop()?;
    Ok(counts)
}

/// Every YAML example of a page is a configuration that Overseer takes, and every setting is on the page of settings.
fn pages_of_docs(workspace: &Workspace, tools: &Tools) -> Result<Counts, Failure> {
    let binary = binary(workspace, tools)?;
    let dir = std::env::temp_dir().join(format!("overseer-docs-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let checked = check_examples(workspace, &binary, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    checked
}

const SETTINGS_PAGE: &str = "docs/configuration.md";
/// Where the pages say that the token lies.
const TOKEN_OF_EXAMPLES: &str = "/etc/overseer/token";

fn check_examples(workspace: &Workspace, binary: &Path, dir: &Path) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    let check = |file: &Path| {
        let mut command = Command::new(binary);
        command
            .args(["config", "check", "--config"])
            .arg(file)
            .current_dir(dir)
            .env_remove("OVERSEER_CONFIG");
        command.output().map_err(|e| format!("{}: {e}", binary.display()))
    };
    // the check reads the token, too
    let token = dir.join("token");
    std::fs::write(&token, "a-token-that-only-the-examples-have\n").map_err(|e| format!("{}: {e}", token.display()))?;
    for page in workspace.files()?.iter().filter(|file| file.ends_with(".md")) {
        let text = std::fs::read_to_string(workspace.path(page)).map_err(|e| format!("{page}: {e}"))?;
        for (line, example) in examples(&text) {
            let file = dir.join("overseer.yaml");
            let example = example.replace(TOKEN_OF_EXAMPLES, &token.to_string_lossy());
            std::fs::write(&file, example).map_err(|e| format!("{}: {e}", file.display()))?;
            let said = check(&file)?;
            if said.status.success() {
                counts.passed += 1;
            } else {
                counts.failed += 1;
                println!("{page}:{line}: {}", String::from_utf8_lossy(&said.stderr).trim());
            }
        }
    }
    let empty = dir.join("empty.yaml");
    std::fs::write(&empty, "").map_err(|e| format!("{}: {e}", empty.display()))?;
    let said = check(&empty)?;
    let page = std::fs::read_to_string(workspace.path(SETTINGS_PAGE)).map_err(|e| format!("{SETTINGS_PAGE}: {e}"))?;
    for key in keys(&String::from_utf8_lossy(&said.stdout)) {
        if page.contains(&format!("`{key}`")) {
            counts.passed += 1;
        } else {
            counts.failed += 1;
            println!("{SETTINGS_PAGE}: the setting `{key}` is missing");
        }
    }
    Ok(counts)
}

/// Fenced blocks that say they are an `overseer.yaml`, and the line each begins at.
fn examples(page: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (at, line) in page.lines().enumerate() {
        if inside && line.trim() == "```" {
            inside = false;
        } else if inside && let Some((_, text)) = found.last_mut() {
            text.push_str(line);
            text.push('\n');
        } else if line.trim() == "```yaml overseer" {
            inside = true;
            found.push((at + 1, String::new()));
        }
    }
    found
}

/// Dotted keys of the settings in force, out of indented JSON: two blanks a level.
fn keys(json: &str) -> Vec<String> {
    let mut path: Vec<&str> = Vec::new();
    let mut keys = Vec::new();
    for line in json.lines() {
        let level = (line.len() - line.trim_start().len()) / 2;
        let Some((key, value)) = line.trim().strip_prefix('"').and_then(|rest| rest.split_once("\": ")) else {
            continue;
        };
        path.truncate(level.saturating_sub(1));
        path.push(key);
        if value != "{" {
            keys.push(path.join("."));
        }
    }
    keys
}

/// An Overseer on a free port, with data of its own.
struct Server {
    child: Child,
    url: String,
    dir: PathBuf,
}

impl Server {
    fn start(binary: &Path) -> Result<Server, Failure> {
        let dir = std::env::temp_dir().join(format!("overseer-browser-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let mut command = Command::new(binary);
        command
            .args(["--listen", "127.0.0.1:0", "--log-level", "warn", "--data-dir"])
            .arg(dir.join("data"));
        // the settings of whoever runs the tests are not the tests'
        command.current_dir(&dir).env_remove("OVERSEER_CONFIG");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OVERSEER__")) {
            command.env_remove(name);
        }
        println!("$ {}", process::shown(&command));
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| format!("{}: {e}", binary.display()))?;
        let stdout = child.stdout.take();
        let mut server = Server {
            child,
            url: String::new(),
            dir,
        };
        let stdout = stdout.ok_or("no output to read")?;
        let (say, said) = std::sync::mpsc::sync_channel(1);
        // reads on to the end, so that Overseer never waits for a reader
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(url) = line.split_ascii_whitespace().find(|word| word.starts_with("http://")) {
                    let _ = say.try_send(url.to_owned());
                }
            }
        });
        match said.recv_timeout(READY_WITHIN) {
            Ok(url) => server.url = url,
            Err(_) => return Err("Overseer does not start; its log stands above".to_owned()),
        }
        Ok(server)
    }

    /// As a service manager would: SIGTERM, then a while to end by itself.
    fn stop(mut self) -> Result<(), Failure> {
        let pid = self.child.id().to_string();
        process::run({
            let mut kill = Command::new("kill");
            kill.args(["-TERM", &pid]);
            kill
        })?;
        let began = Instant::now();
        while began.elapsed() < STOP_WITHIN {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("Overseer ended with {status}")),
                Ok(None) => std::thread::sleep(Duration::from_millis(50)),
                Err(e) => return Err(e.to_string()),
            }
        }
        Err(format!("Overseer did not stop within {}", seconds(STOP_WITHIN)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_known_by_name() {
        assert_eq!(
            names(Some("unit,doc".into())),
            Ok(Some(vec!["unit".into(), "doc".into()]))
        );
        assert!(names(Some("unit,dco".into())).unwrap_err().contains("\"dco\""));
    }

    #[test]
    fn examples_and_keys_are_found() {
        let page = "a\n```yaml overseer\nlisten: x:1\n```\n```yaml\nother: 1\n```\n";
        assert_eq!(examples(page), [(2, "listen: x:1\n".to_owned())]);
        let json = "good:\n{\n  \"listen\": \"x\",\n  \"log\": {\n    \"level\": \"info\"\n  },\n  \"jobs\": []\n}\n";
        assert_eq!(keys(json), ["listen", "log.level", "jobs"]);
    }

    #[test]
    fn a_reason_for_skipping_is_told_once() {
        let skipped = ["no root".to_owned(), "no Python".into(), "no root".into()];
        assert_eq!(reasons(&skipped), ["no Python", "no root (2 times)"]);
    }

    #[test]
    fn the_summary_is_json() {
        let counts = Counts {
            passed: 3,
            failed: 1,
            skipped: vec!["no root".into()],
        };
        let done = [Done {
            name: "unit",
            counts: counts.clone(),
            took: Duration::from_millis(1250),
        }];
        let want = r#"{"passed":3,"failed":1,"skipped":1,"seconds":2.0,"sections":[{"name":"unit","passed":3,"failed":1,"seconds":1.2}]}"#;
        assert_eq!(as_json(&done, &counts, Duration::from_secs(2)), want);
    }
}
