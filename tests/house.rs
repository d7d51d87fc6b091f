//! The order of the house: links that lead somewhere, layers that look down only, `unsafe` that says why, few packages.
//!
//! Everything here reads the sources as text. That is less than a compiler knows and enough to notice the day on which a
//! convenient `use` turns a layer upside down.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// From the top down; a file may name its own layer and those after it. The utilities at the end are one layer.
const LAYERS: [&str; 13] = [
    "cli",
    "learner",
    "vision",
    "plot", // above `data`: a figure shows pictures, and `Picture` is theirs
    "data",
    "optim",
    "nn",
    "ops",
    "autograd",
    "tensor",
    "device",
    "fetch",
    "error fs rng",
];

/// Who may look up, and why. An entry that nobody needs any more fails the test.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    ("tensor", "autograd", "a tensor holds the node that it came from: the graph is made of tensors' pasts"),
    ("device", "tensor", "storage and kernels are written over the number types, which the tensor layer defines"),
];

/// Pairs that don't know each other although one stands above the other.
const STRANGERS: [(&str, &str); 1] = [("data", "nn")];

/// What the crate re-exports at its root, and from where.
const ROOT: [(&str, &str); 6] = [
    ("Device", "device"),
    ("DType", "tensor"),
    ("Tensor", "tensor"),
    ("Error", "error"),
    ("ErrorKind", "error"),
    ("Result", "error"),
];

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.split(' ').any(|n| n == layer))
}

#[test]
fn links_in_the_prose_lead_to_files() {
    let mut broken = Vec::new();
    let (mut links, mut names) = (0, 0);
    for page in ["README.md", "docs/tour.md", "CHANGELOG.md", "kernels/README.md"] {
        let text = read(&root().join(page));
        let folder = root().join(page).parent().unwrap().to_path_buf();
        let linked = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        // Pictures with a light and a dark file are HTML.
        let shown = text.split("src").skip(1).filter_map(|rest| rest.trim_start_matches("set").strip_prefix("=\""));
        for target in linked.chain(shown.filter_map(|rest| rest.split('"').next())) {
            let path = target.split('#').next().unwrap();
            if target.contains("://") || path.is_empty() {
                continue;
            }
            links += 1;
            if !folder.join(path).exists() {
                broken.push(format!("{page}: {target}"));
            }
        }
        // A link that shows a name leads to where that name is: [`Conv2d::forward`](../src/nn/layers/conv2d.rs).
        for named in text.split("[`").skip(1) {
            let Some((name, rest)) = named.split_once("`](") else { continue };
            let path = folder.join(rest.split([')', '#']).next().unwrap());
            let word = name.rsplit("::").next().unwrap();
            if path.is_file() && word.chars().all(|c| c.is_alphanumeric() || c == '_') {
                names += 1;
                let there = read(&path).split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|w| w == word);
                if !there {
                    broken.push(format!("{page}: {} says nothing of {name}", path.display()));
                }
            }
        }
    }
    assert!(names > 20, "only {names} names were found: is the search broken?");
    assert!(links > 50, "only {links} links were found: is the search broken?");
    assert!(broken.is_empty(), "links to nowhere:\n{}", broken.join("\n"));
}

#[test]
fn layers_look_down_only() {
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for file in sources() {
        let relative = file.strip_prefix(root().join("src")).unwrap();
        let module = module_path(relative);
        // The crate's root names everything: that is its work.
        let Some(layer) = module.first().filter(|layer| !matches!(layer.as_str(), "lib" | "main" | "prelude")) else {
            continue;
        };
        let own = rank(layer).unwrap_or_else(|| panic!("src/{layer} is in no layer: give it a place in LAYERS"));
        for (line, named) in names_at_root(&without_tests(&code_only(&read(&file))), module.len()) {
            let named = ROOT.iter().find(|(item, _)| *item == named).map_or(named.as_str(), |(_, layer)| layer);
            let Some(theirs) = rank(named) else { continue };
            let strangers = STRANGERS.iter().any(|&(a, b)| (layer == a && named == b) || (layer == b && named == a));
            if theirs >= own && !strangers {
                continue;
            }
            match EXCEPTIONS.iter().find(|(from, to, _)| layer == from && named == *to) {
                Some((from, to, _)) => _ = used.insert((*from, *to)),
                None => wrong.push(format!("src/{}:{line}: {layer} names {named}", relative.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "a layer looks up:\n{}", wrong.join("\n"));
    for (from, to, why) in EXCEPTIONS {
        assert!(used.contains(&(from, to)), "{from} no longer names {to} ({why}): take it out of EXCEPTIONS");
    }
}

#[test]
fn every_unsafe_says_why_it_is_sound() {
    /// Lines above an `unsafe` in which its reason may begin: a comment of some lines, or a few neighbours that share one.
    const REACH: usize = 6;
    let mut bare = Vec::new();
    let mut blocks = 0;
    for file in sources() {
        let text = read(&file);
        let lines: Vec<&str> = text.lines().collect();
        for (i, code) in code_only(&text).lines().enumerate() {
            let unsafe_code = code.split("unsafe").skip(1).map(str::trim_start);
            if !unsafe_code.into_iter().any(|rest| rest.starts_with('{') || rest.starts_with("impl") || rest.is_empty())
            {
                continue;
            }
            blocks += 1;
            if !lines[i.saturating_sub(REACH)..=i].iter().any(|line| line.contains("SAFETY:")) {
                bare.push(format!("{}:{}", file.display(), i + 1));
            }
        }
    }
    assert!(blocks > 10, "only {blocks} were found: is the search broken?");
    assert!(bare.is_empty(), "unsafe without a SAFETY comment:\n{}", bare.join("\n"));
}

#[test]
fn the_light_library_has_few_packages() {
    const MOST: usize = 60;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .args(["tree", "--offline", "-e", "normal", "--no-default-features", "--prefix", "none"])
        .current_dir(root())
        .output();
    let tree = match tree {
        Err(e) => return common::skip(format_args!("cargo can't be started: {e}")),
        Ok(out) if !out.status.success() => {
            return common::skip(format_args!("cargo tree failed: {}", String::from_utf8_lossy(&out.stderr)));
        }
        Ok(out) => String::from_utf8(out.stdout).unwrap(),
    };
    // A line is `name v1.2.3 (*)`, with more in parentheses for procedural macros and local packages.
    let package = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let packages: BTreeSet<String> = tree.lines().filter(|l| !l.is_empty()).map(package).collect();
    println!("{} packages", packages.len());
    assert!(packages.len() > 5, "the tree was not understood:\n{tree}");
    assert!(packages.len() <= MOST, "{} packages are more than {MOST}: {packages:?}", packages.len());
}

#[test]
fn the_scanner_sees_what_it_should() {
    let code = "use crate::{a::{b, c}, d};\n// crate::e\nlet s = \"crate::f\"; /* crate::g */ crate::h::i();\n";
    let found =
        |code: &str, depth| names_at_root(&code_only(code), depth).into_iter().map(|(_, n)| n).collect::<Vec<_>>();
    assert_eq!(found(code, 2), ["a", "d", "h"]);
    assert_eq!(found("super::super::x; super::y; let c = '\"'; crate::z", 2), ["x", "z"]);
    assert_eq!(found("$crate::m!(); r#\"crate::n\"#; let l: &'static str;", 2), ["m"]);
    assert_eq!(found("#![doc = \"crate::o\"]", 1), [""; 0]);
    let tested = "crate::a; #[cfg(test)]\nmod tests { use crate::b; fn f() {} } crate::c";
    assert_eq!(found(&without_tests(tested), 2), ["a", "c"]);
    assert_eq!(module_path(Path::new("ops/conv2d/mod.rs")), ["ops", "conv2d"]);
    assert_eq!(module_path(Path::new("fs.rs")), ["fs"]);
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All `.rs` files of `src`, sorted.
fn sources() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// `ops/conv2d/cpu.rs` is the module `ops::conv2d::cpu`.
fn module_path(relative: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        relative.with_extension("").components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|p| p == "mod") {
        parts.pop();
    }
    parts
}

/// The text with comments and the insides of strings blanked out; lines stay where they are.
fn code_only(text: &str) -> String {
    let c: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let blank = |from: usize, to: usize, out: &mut String| {
        out.extend(c[from..to.min(c.len())].iter().map(|&ch| if ch == '\n' { '\n' } else { ' ' }));
        to.min(c.len())
    };
    let starts = |i: usize, what: &str| what.chars().enumerate().all(|(k, ch)| c.get(i + k) == Some(&ch));
    let until = |from: usize, what: &str| (from..c.len()).find(|&j| starts(j, what)).unwrap_or(c.len());
    let mut i = 0;
    while i < c.len() {
        let in_word = i > 0 && (c[i - 1].is_alphanumeric() || c[i - 1] == '_');
        if starts(i, "//") {
            i = blank(i, until(i, "\n"), &mut out);
        } else if starts(i, "/*") {
            i = blank(i, until(i + 2, "*/") + 2, &mut out);
        } else if !in_word && c[i] == 'r' && (starts(i, "r\"") || starts(i, "r#")) {
            let hashes = c[i + 1..].iter().take_while(|&&ch| ch == '#').count();
            if c.get(i + 1 + hashes) == Some(&'"') {
                let close = format!("\"{}", "#".repeat(hashes));
                i = blank(i, until(i + 2 + hashes, &close) + close.len(), &mut out);
            } else {
                out.push(c[i]); // a raw identifier
                i += 1;
            }
        } else if c[i] == '"' {
            let mut end = i + 1;
            while end < c.len() && c[end] != '"' {
                end += if c[end] == '\\' { 2 } else { 1 };
            }
            i = blank(i, end + 1, &mut out);
        } else if starts(i, "'\\") {
            i = blank(i, until(i + 3, "'") + 1, &mut out);
        } else if c[i] == '\'' && c.get(i + 2) == Some(&'\'') {
            i = blank(i, i + 3, &mut out); // a character; otherwise it is a lifetime
        } else {
            out.push(c[i]);
            i += 1;
        }
    }
    out
}

/// Without `#[cfg(test)] mod .. { .. }`: tests may look wherever they like.
fn without_tests(code: &str) -> String {
    let mut rest = code;
    let mut out = String::new();
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let open = rest[at..].find('{').map_or(rest.len(), |o| at + o);
        let mut depth = 0usize;
        let end = rest[open..].char_indices().find_map(|(i, ch)| {
            match ch {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(open + i + 1)
        });
        let end = end.unwrap_or(rest.len());
        out.extend(rest[at..end].chars().filter(|ch| *ch == '\n'));
        rest = &rest[end..];
    }
    out + rest
}

/// The first names behind `crate::`, and behind as many `super::` as lead out of a module at `depth`, with their lines.
fn names_at_root(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let ident = |s: &str| s.chars().take_while(|ch| ch.is_alphanumeric() || *ch == '_').collect::<String>();
    let mut note = |at: usize| {
        let line = code[..at].matches('\n').count() + 1;
        let rest = code[at..].trim_start();
        let Some(group) = rest.strip_prefix('{') else {
            let name = ident(rest);
            return if name.is_empty() {
            } else {
                found.push((line, name))
            };
        };
        // Names of a group stand behind its brace or behind a comma on its own level.
        let (mut level, mut begin) = (0usize, true);
        for (i, ch) in group.char_indices() {
            match ch {
                '{' => level += 1,
                '}' if level == 0 => break,
                '}' => level -= 1,
                ',' if level == 0 => begin = true,
                _ if begin && !ch.is_whitespace() => {
                    begin = false;
                    found.push((line, ident(&group[i..])));
                }
                _ => {}
            }
        }
    };
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if !before.is_some_and(|ch| ch.is_alphanumeric() || ch == '_') {
            note(at + "crate::".len());
        }
    }
    let mut at = 0;
    while let Some(next) = code[at..].find("super::").map(|n| at + n) {
        let chain = code[next..].split("super::").take_while(|part| part.is_empty()).count();
        at = next + chain * "super::".len();
        if chain >= depth {
            note(at);
        }
    }
    found.sort();
    found
}
