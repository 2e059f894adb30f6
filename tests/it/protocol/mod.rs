//! The protocol of the lake as a small program, run in random interleavings and compared with the truth.
//!
//! Raw events → minute → hour, and a second direct dependent of the events; side tables (dead letters, late
//! rows, ledger) that ingest fills. Anything may happen between planning a commit and making it: other
//! commits, a crash, a lost answer. Whoever pins several tables may be slow about it. At any moment a query
//! over a rollup has to equal the definition over all events that came in, less those deleted, at the version
//! of the events it pinned; and a side table has to show the side rows of all ingest commits up to that
//! version, each once.
//!
//! Not modelled: sketches, schema evolution, vacuum and log clean-up, deduplication by event id.
//!
//! # The rules
//!
//! `rules.rs` has what is checked at the version a commit lands on, `view.rs` what a reader does. Every rule
//! can be left out (`variant.rs`), and then some runs go wrong. One half of a rule has no variant, because
//! only a rollup that is wrong to begin with, which `repair` is for, can tell the difference: no `replace`
//! commit between planning and committing a fold.
//!
//! **Any commit.** Every Remove names an active file. After a lost answer the commit's id is looked for in
//! every commit since the plan was made, before it is tried again; an INSERT has nothing else to be told by.
//!
//! **Ingest.** The stored position of the source partition is the one at which the batch began.
//!
//! **Outbox.**
//! 1. Ingest writes the side rows into files of the side tables' own folders, and names them in the events
//!    commit. Nothing is committed to a side table by ingest itself.
//! 2. A follower pins the side table first and then the events, and adds what the commits `(txn, pinned]`
//!    name in one commit with `txn = pinned`. It commits only where the side table's `txn` is still the one
//!    it began at. That a file is there already is no substitute: compaction replaces files.
//! 3. A reader pins the side table first and then the events, and adds what the commits `(txn, pinned]` name.
//! 4. So an events commit stays in the log, and the files it names stay in the side tables' folders, until
//!    the `txn` of each side table it names has passed it. To a vacuum that knows only the side table they
//!    look like orphans.
//!
//! **A window** `(folded, pinned]` of the events' log.
//! 1. A commit of an unknown kind that removes nothing is an append. As a dirty bucket, a row below the cut
//!    would be clipped, and lost.
//! 2. Dirty buckets are clipped commit by commit, by the cut that held when that commit was made. Below it a
//!    commit only carries rows from file to file.
//! 3. If a dirty bucket that is left lies below the cut of the pinned version, the rows it would be
//!    recomputed from may be gone. A reader pins all its tables again, from the top; a fold is planned again.
//!    By the guard of `expire` the dependent has taken the change in by then, so pinning at once always gives
//!    an answer.
//!
//! **Planning `expire`**, at version `p` of the events.
//! 1. The cut is a multiple of every direct dependent's bucket width, not above the watermark less the
//!    retention, and above the `expired_through` of `p`.
//! 2. The guard: no direct dependent has a commit in `(folded, p]` that makes a bucket below the cut dirty
//!    (clipped as above). Unfolded *appends* below the cut are no obstacle: the tail is read from the files a
//!    commit added, not from the active ones, so vacuum has to keep them until they are folded.
//! 3. It removes the files of `p` that hold rows below the cut and adds what is left of them. The commit
//!    carries the cut, in the events' own log: who pins a version pins its cut.
//!
//! **Committing `expire`**, on top of version `n`.
//! 1. Every file it removes is active.
//! 2. The cut is above the `expired_through` of `n`. The check while planning is not enough: retention may
//!    have been altered in between. Without this one the cut falls, and buckets that are gone are recomputed.
//! 3. The guard holds for `(folded, n]`: a DELETE may have come in after `p`. Fold positions only grow, so
//!    they may be read before `n` is known.
//! 4. Rows below the cut that were appended after `p` are left where they are. They count as late events
//!    below the cut do: in the tail, then in the old bucket. The next expire takes them.
//!
//! **What an expire that commits in between means for others.**
//! 1. DELETE and UPDATE leave rows below the cut alone (and move none below it), and commit only if
//!    `expired_through` is the one they were planned at. That removed files are active is not enough: a row
//!    of point 4 above is active and below the cut.
//! 2. A fold, a recompute or a repair stays right without a check of the cut: it says what was true at the
//!    source version it read, whose cut it used, and the fold position still stands. A recompute refuses
//!    buckets below the cut of the version it reads.
//! 3. Compaction needs no more than that removed files are active.

mod expire;
mod ingest;
mod model;
mod oracle;
mod plan;
mod rules;
mod run;
mod variant;
mod view;

use variant::Variant;

/// `TOPLAKE_MODEL_SEEDS` overrides it.
const SEEDS: u64 = 3_000;
/// The rarest violation turns up about once in 2,000 runs.
const SEEDS_PER_VARIANT: u64 = 30_000;

#[test]
fn the_protocol_holds() {
    let seeds = std::env::var("TOPLAKE_MODEL_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let wrong: Vec<_> = (0..seeds).filter_map(|seed| run::run(seed, Variant::Complete).err()).collect();
    let first = wrong.iter().take(3).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {seeds} runs go wrong, the first of them:\n{first}", wrong.len());
}

/// The test above can fail, and no rule is there for nothing.
#[test]
fn each_rule_is_needed() {
    let holds = |variant: &Variant| (0..SEEDS_PER_VARIANT).all(|seed| run::run(seed, *variant).is_ok());
    let needless: Vec<_> = Variant::INCOMPLETE.into_iter().filter(holds).collect();
    assert!(needless.is_empty(), "nothing goes wrong in {SEEDS_PER_VARIANT} runs of {needless:?}");
}
