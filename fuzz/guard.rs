//! Random statements against the guard: what it accepts reads what it said, and nothing else.
//!
//! Statements are put together from the cases of `tests/cases/query-attacks.json`, from every
//! function's name, and from what libFuzzer makes of them byte by byte.

#![no_main]

use std::sync::OnceLock;

use agnes_core::query::fuzz::Guard;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

thread_local! {
    static GUARD: Guard = Guard::open();
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let fault = GUARD.with(|guard| guard.fault(text));
    assert!(fault.is_none(), "{}\n{text}", fault.unwrap_or_default());
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice(u64::from(seed) | 1 << 32);
    // A third is left to the bytes.
    let text = match std::str::from_utf8(&data[..size]) {
        Ok(text) if !dice.one_in(3) => spliced(text, &mut dice),
        _ => return fuzzer_mutate(data, size, max_size),
    };
    let size = (0..=text.len().min(max_size)).rev().find(|at| text.is_char_boundary(*at));
    let size = size.unwrap_or(0);
    data[..size].copy_from_slice(&text.as_bytes()[..size]);
    size
});

/// What statements are made of.
struct Stock {
    cases: Vec<Vec<String>>,
    names: Vec<String>,
}

fn stock() -> &'static Stock {
    static STOCK: OnceLock<Stock> = OnceLock::new();
    STOCK.get_or_init(|| {
        let text = include_str!("../tests/cases/query-attacks.json");
        let all: serde_json::Value = serde_json::from_str(text).expect("the cases are JSON");
        let cases = all["cases"].as_array().expect("there are cases");
        let cases = cases.iter().filter_map(|case| Some(tokens(case["sql"].as_str()?))).collect();
        let tables = ["orders", "customers", "salaries", "main", "id", "amount", "tags", "info"];
        let mut names = GUARD.with(Guard::functions);
        names.extend(tables.map(String::from));
        Stock { cases, names }
    })
}

/// A statement with a part of it taken out, and often something else put there.
fn spliced(text: &str, dice: &mut Dice) -> String {
    let stock = stock();
    let mut tokens = tokens(text);
    let other = &stock.cases[dice.below(stock.cases.len())];
    if tokens.is_empty() || dice.one_in(20) {
        return other.concat();
    }
    for _ in 0..=dice.below(3) {
        let at = dice.below(tokens.len().max(1)).min(tokens.len());
        let end = (at + dice.below(4)).min(tokens.len());
        let from = dice.below(other.len());
        let to = (from + 1 + dice.below(12)).min(other.len());
        let put: Vec<String> = match dice.below(8) {
            0 => Vec::new(),
            1 => vec![stock.names[dice.below(stock.names.len())].clone()],
            2 => [vec!["(".into()], tokens[at..end].to_vec(), vec![")".into()]].concat(),
            3 => [vec!["(".into()], other.clone(), vec![")".into()]].concat(),
            4 => [tokens[at..end].to_vec(), other[from..to].to_vec()].concat(),
            _ => other[from..to].to_vec(),
        };
        tokens.splice(at..end, put);
    }
    tokens.concat()
}

/// Words, blanks and signs.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let kind = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' || c == '$' => 0,
        c if c.is_whitespace() => 1,
        _ => 2,
    };
    let mut last = 3;
    for c in text.chars() {
        match tokens.last_mut() {
            Some(token) if kind(c) == last && last < 2 => token.push(c),
            _ => tokens.push(c.to_string()),
        }
        last = kind(c);
    }
    tokens
}

/// Numbers that come from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}
