//! Dead letters that are sent again, on their way into the table that they were meant for.
//!
//! One commit of the dead letters takes them out and names the files of rows that they became; whoever follows adds these to the
//! table, each once ([`outbox`](super::outbox)). Whether a row is late is decided then, at the version that the follower's
//! commit builds on, as for any other row that comes in.

use std::sync::Arc;

use super::late::Divided;
use super::outbox::Route;
use super::warehouse::{Object, Warehouse};
use crate::error::{Error, Kind, Result};
use crate::lake::action::CommitKind;
use crate::lake::committer::Change;
use crate::lake::table::Table;

/// Times in a row that a follower begins again after losing to another writer.
const TRIES: usize = 40;

impl Warehouse {
    /// Adds to a table what was taken out of the dead letters for it.
    pub(super) async fn follow_replayed(
        self: &Arc<Self>,
        route: Route,
        letters: &Table,
        into: &Table,
    ) -> Result<()> {
        let mut tries = 0;
        loop {
            match self.follow_replayed_once(route, letters, into).await {
                Ok(true) => tries = 0,
                Err(e) if e.kind() == Kind::Conflict && tries < TRIES => tries += 1,
                done => {
                    return done
                        .map(|_| ())
                        .map_err(|e: Error| e.context(format!("table '{}'", into.name())));
                }
            }
        }
    }

    /// Says whether there is more.
    async fn follow_replayed_once(
        self: &Arc<Self>,
        route: Route,
        letters: &Table,
        into: &Table,
    ) -> Result<bool> {
        // The table first: what another follower adds after that is still named by the commits read below.
        let mine = into.update().await?;
        let theirs = letters.update().await?;
        let mut unread = route.unread(&mine, letters, &theirs);
        let Some(commits) = unread.next().await? else { return Ok(false) };
        let Some(Object::Table(events)) = self.get(into.name()).await? else { return Ok(false) };
        let mut divided = Divided::of_named(&events, route.files(&commits));
        let mut change = Change::new(CommitKind::Append, "REPLAY", &mine);
        change.positions = unread.positions(&mine);
        divided.plan(&mut change, &mine).await?;
        if let Err(e) = into.commit(&change).await {
            // After any other error the commit may have happened: its files stay.
            if e.kind() == Kind::Conflict {
                divided.discard().await;
            }
            return Err(e);
        }
        if let (Some(late), true) = (events.late(), divided.late_rows() > 0) {
            Route::Late.follow(into, late).await?;
        }
        Ok(!unread.is_done())
    }
}
