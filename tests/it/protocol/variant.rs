//! The protocol with one rule left out at a time: so the test can fail, and the rule is needed.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The protocol as it is.
    Complete,

    // Reading a rollup, and folding.
    /// A fold takes every added file of every commit that changes data.
    FoldIgnoresKinds,
    /// The files of a `replace` commit are not told apart.
    NoTags,
    /// The source's dirty buckets do not join those of the rollup above it.
    NoWidening,
    /// Another program's INSERT makes its buckets dirty as a DELETE does.
    ForeignInsertIsDirty,
    /// A reader pins the source before the rollup.
    SourcePinnedFirst,

    // Committing.
    /// A fold commits whatever the fold position is by now.
    NoFoldPosition,
    /// Removed files need not be active any more.
    NoActiveCheck,
    /// After a lost answer the commit is tried again without a look for its id.
    NoCommitIdLookup,

    // Ingest and the side tables.
    /// An ingest commit does not require the position its batch began at.
    NoSourcePosition,
    /// A follower of the outbox commits whatever its position is by now.
    NoFollowerPosition,
    /// A reader of a side table sees only what a follower has added.
    OutboxNotRead,
    /// Ingest commits side rows to their tables itself, before the events.
    SideRowsFirst,

    // Retention.
    /// The cut is a bucket boundary of one dependent only.
    BucketsOfOneDependent,
    /// One dependent's fold position only is looked at.
    OneDependentGuarded,
    /// Retention runs ahead of the dependents' folds.
    NoGuard,
    /// The dependents' fold positions are looked at while planning only.
    NoGuardAtCommit,
    /// `expired_through` may fall.
    NotMonotonic,
    /// An expire commits without any check.
    ExpireUnchecked,
    /// A DELETE commits although the cut has moved since it was planned.
    DeleteIgnoresCut,
    /// A DELETE takes rows below the cut.
    DeleteBelowCut,
    /// Buckets below the cut can be recomputed.
    RecomputeBelowCut,
    /// A window is clipped by the cut of the version pinned, without a look at what lay below it before.
    NoPinningAgain,
    /// Nothing is clipped.
    NoClipping,
}

impl Variant {
    pub(crate) const INCOMPLETE: [Variant; 23] = [
        Variant::FoldIgnoresKinds,
        Variant::NoTags,
        Variant::NoWidening,
        Variant::ForeignInsertIsDirty,
        Variant::SourcePinnedFirst,
        Variant::NoFoldPosition,
        Variant::NoActiveCheck,
        Variant::NoCommitIdLookup,
        Variant::NoSourcePosition,
        Variant::NoFollowerPosition,
        Variant::OutboxNotRead,
        Variant::SideRowsFirst,
        Variant::BucketsOfOneDependent,
        Variant::OneDependentGuarded,
        Variant::NoGuard,
        Variant::NoGuardAtCommit,
        Variant::NotMonotonic,
        Variant::ExpireUnchecked,
        Variant::DeleteIgnoresCut,
        Variant::DeleteBelowCut,
        Variant::RecomputeBelowCut,
        Variant::NoPinningAgain,
        Variant::NoClipping,
    ];
}
