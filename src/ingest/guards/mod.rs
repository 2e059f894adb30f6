//! What a producer sends twice, and what comes too often, kept out of the events table.
//!
//! Guards look at the rows of one source partition in the order of their offsets. What they find depends on the rows alone, not
//! on how they are cut into batches, nor on who reads them: what is remembered is written beside the rows, named by the same
//! commit ([`recent_keys`]), and read again by whoever takes the partition over.
//!
//! *Duplicates.* An event is one if an event with an equal key was taken before it, their times differ by no more than the
//! window, and the earlier one's is no older than the highest time so far less the window. A key with a NULL in it has no
//! equal.
//!
//! *Too many.* Of each key and bucket of time so many events pass, and the others are suspects. An event passes if its bucket
//! began before the one before the highest time's, or its key has a NULL in it. Duplicates do not count; a suspect that comes
//! again is a duplicate.
//!
//! Both see one partition: producers have to partition by the key, or by something that follows from it.
//!
//! | file | what |
//! | --- | --- |
//! | `encode` | keys as bytes |
//! | `key_map` | a number for each key, compact |
//! | `dedup` | which events came before |
//! | `max_per_key` | how many events a key had |
//! | `remembered` | what is written and read again |
//! | `budget` | whether a window fits into memory |

mod budget;
mod dedup;
mod encode;
mod key_map;
mod max_per_key;
mod remembered;

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch};
use datafusion::arrow::datatypes::TimestampMicrosecondType;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};

use self::dedup::RecentEvents;
use self::encode::KeyColumns;
use self::max_per_key::Counts;
use self::remembered::Remembered;
use crate::catalog::events::EventsTable;
use crate::catalog::recent_keys;
use crate::catalog::warehouse::Warehouse;
use crate::error::{Error, Result};
use crate::lake::action::Add;
use crate::lake::event_times::Partition;
use crate::lake::snapshot::File;

/// Which guards a stream has. Durations are microseconds of event time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardOptions {
    /// Leaves out what came before.
    pub dedup: Option<Dedup>,
    /// Diverts what comes too often.
    pub max_per_key: Option<MaxPerKey>,
    /// Bytes that the guards of one partition may take.
    pub memory: usize,
}

/// When an event is the same as one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedup {
    /// The columns that say which event it is.
    pub key: Vec<String>,
    /// How far apart the times of the two may be.
    pub window: i64,
}

/// When a key has too many events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPerKey {
    /// The columns, such as user and ad.
    pub keys: Vec<String>,
    /// How long a bucket is.
    pub per: i64,
    /// Events that a key may have in a bucket.
    pub limit: u64,
}

/// What guards say of rows.
#[derive(Debug, Default)]
pub struct Judged {
    /// The rows to store; `None` if that is all of them.
    pub keep: Option<BooleanArray>,
    /// The numbers of rows that came before.
    pub duplicates: Vec<u32>,
    /// The numbers of rows that are more than their key may have.
    pub suspects: Vec<u32>,
}

/// The guards of one source partition.
///
/// After an error, and after a commit that did not happen, they know what the warehouse does not: drop them and load them
/// again.
#[derive(Debug)]
pub struct Guards {
    partition: Partition,
    dedup: Option<(KeyColumns, RecentEvents)>,
    max_per_key: Option<(KeyColumns, Counts)>,
    /// The place of the time column.
    time: usize,
    /// The highest time of a row that was judged.
    highest: Option<i64>,
    remembered: Remembered,
    /// Bytes that they may take.
    memory: usize,
    reservation: MemoryReservation,
}

impl Guards {
    /// The guards of a partition, as the newest version of the table remembers them.
    ///
    /// Look up where the partition stands before, and require in the commit that it still does: then what is remembered is
    /// what the rows from there on are to be judged by. Fails if the window cannot fit into the memory.
    pub async fn load(
        options: &GuardOptions,
        warehouse: &Arc<Warehouse>,
        events: &Arc<EventsTable>,
        partition: &Partition,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<Guards> {
        let name = events.table().name();
        let load = async {
            let (mut guards, time) = Guards::new(options, warehouse, events, partition, pool)?;
            let (files, now) = recent_keys::named_by(events.table(), warehouse).await?;
            guards.highest =
                now.event_times.streams().find(|(p, _)| *p == partition).and_then(|(_, r)| r.highest);
            guards.read(&now.metadata.id, files).await?;
            if let Some((columns, recent)) = &guards.dedup {
                let of_key = match recent.len() {
                    0 => columns.usual_bytes(&now.schema),
                    keys => recent.memory() / keys,
                };
                let window = options.dedup.as_ref().map_or(0, |dedup| dedup.window);
                let keys = budget::keys_of_window(&now, partition, &time, window);
                budget::check(keys, of_key, options.memory, pool.as_ref())?;
            }
            Ok(guards)
        };
        load.await.map_err(|e: Error| e.context(format!("guards of '{name}', partition {partition}")))
    }

    /// Fails where the guards and the table do not fit together, whatever partition they are for.
    pub fn check(
        options: &GuardOptions,
        warehouse: &Warehouse,
        events: &EventsTable,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<()> {
        let any = Partition { source: String::new(), number: 0 };
        let checked = Guards::new(options, warehouse, events, &any, pool).map(|_| ());
        checked.map_err(|e| e.context(format!("guards of '{}'", events.table().name())))
    }

    /// Guards that have seen nothing, and the name of the time column.
    fn new(
        options: &GuardOptions,
        warehouse: &Warehouse,
        events: &EventsTable,
        partition: &Partition,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<(Guards, String)> {
        let (name, schema) = (events.table().name(), events.stored());
        let time = events.options().time_column.clone();
        let Some((time, index)) = time.and_then(|time| Some((time.clone(), schema.index_of(&time).ok()?)))
        else {
            return Err(Error::wrong_object_type("it has no time_column, and guards go by event time")
                .with_hint("create the table WITH (time_column = '…')"));
        };
        let positive = |option: &str, value: i64| match value {
            1.. => Ok(value),
            _ => Err(Error::invalid_input(format!("{option} has to be longer than nothing"))),
        };
        let dedup = options.dedup.as_ref().map(|dedup| -> Result<_> {
            let columns = KeyColumns::new("dedup_key", &dedup.key, schema, name)?;
            Ok((columns, RecentEvents::new(positive("dedup_window", dedup.window)?)))
        });
        let max_per_key = options.max_per_key.as_ref().map(|max| -> Result<_> {
            let columns = KeyColumns::new("max_per_key", &max.keys, schema, name)?;
            if max.limit == 0 {
                return Err(Error::invalid_input("max_per_key: the limit is 0, and no event would pass"));
            }
            Ok((columns, Counts::new(positive("max_per_key: the bucket", max.per)?, max.limit)))
        });
        let guards = Guards {
            partition: partition.clone(),
            dedup: dedup.transpose()?,
            max_per_key: max_per_key.transpose()?,
            time: index,
            highest: None,
            remembered: Remembered::new(options, warehouse, events, partition),
            memory: options.memory,
            reservation: MemoryConsumer::new(format!("guards of {partition}")).register(pool),
        };
        Ok((guards, time))
    }

    /// Looks at the next rows of the table, in the order of their offsets.
    pub fn judge(&mut self, rows: &RecordBatch) -> Result<Judged> {
        let times = rows.column(self.time).as_primitive::<TimestampMicrosecondType>();
        if times.null_count() > 0 {
            return Err(Error::internal("an event without a time was to be judged"));
        }
        let encode = |columns: &KeyColumns| columns.encode(rows);
        let dedup_keys = self.dedup.as_ref().map(|(columns, _)| encode(columns)).transpose()?;
        let counted_keys = self.max_per_key.as_ref().map(|(columns, _)| encode(columns)).transpose()?;
        let mut judged = Judged::default();
        for (row, time) in times.values().iter().enumerate() {
            let highest = self.rise(*time);
            if let (Some((_, recent)), Some(keys)) = (&mut self.dedup, &dedup_keys)
                && let Some(key) = keys.get(row)
                && recent.is_duplicate(key, *time, highest)?
            {
                judged.duplicates.push(row as u32);
            } else if let (Some((_, counts)), Some(keys)) = (&mut self.max_per_key, &counted_keys)
                && let Some(key) = keys.get(row)
                && counts.is_suspect(key, *time)?
            {
                judged.suspects.push(row as u32);
            }
        }
        self.reserve()?;
        if !(judged.duplicates.is_empty() && judged.suspects.is_empty()) {
            let mut keep = BooleanBufferBuilder::new(rows.num_rows());
            keep.append_n(rows.num_rows(), true);
            for row in judged.duplicates.iter().chain(&judged.suspects) {
                keep.set_bit(*row as usize, false);
            }
            judged.keep = Some(BooleanArray::new(keep.finish(), None));
        }
        Ok(judged)
    }

    /// Writes what was remembered since the last time. The commit that stores the rows has to name the files:
    /// `Route::RecentKeys.name_in(&mut change, &adds)`. Gives none if there is nothing new.
    pub async fn finish(&mut self) -> Result<Vec<Add>> {
        let Some(highest) = self.highest else { return Ok(vec![]) };
        let dedup = self.dedup.as_mut().map(|(_, recent)| recent);
        let counts = self.max_per_key.as_mut().map(|(_, counts)| counts);
        self.remembered
            .write(dedup, counts, highest)
            .await
            .map_err(|e| e.context(format!("guards of partition {}", self.partition)))
    }

    /// Takes in what is remembered in files of the side table.
    async fn read(&mut self, table_id: &str, files: Vec<Arc<File>>) -> Result<()> {
        let mut rows = self.remembered.read(table_id, files, self.highest).await?;
        while let Some(batch) = rows.next().await? {
            for row in 0..batch.len() {
                match batch.row(row) {
                    remembered::Row::Event { key, time } => {
                        if let Some((_, recent)) = &mut self.dedup {
                            recent.remember(key, time)?;
                        }
                    }
                    remembered::Row::Count { key, begin, count } => {
                        if let Some((_, counts)) = &mut self.max_per_key {
                            counts.remember(key, begin, count)?;
                        }
                    }
                    remembered::Row::Reached { highest } => {
                        self.remembered.reached(highest);
                        self.rise(highest);
                    }
                }
            }
            self.reserve()?;
        }
        Ok(())
    }

    /// Takes in a time; gives the highest one so far.
    fn rise(&mut self, time: i64) -> i64 {
        if let Some(highest) = self.highest.filter(|highest| *highest >= time) {
            return highest;
        }
        self.highest = Some(time);
        if let Some((_, recent)) = &mut self.dedup {
            recent.forget(time);
        }
        if let Some((_, counts)) = &mut self.max_per_key {
            counts.forget(time);
        }
        time
    }

    /// Tells the pool how much it is, and refuses more than is allowed.
    fn reserve(&self) -> Result<()> {
        let dedup = self.dedup.as_ref().map_or(0, |(_, recent)| recent.memory());
        let counts = self.max_per_key.as_ref().map_or(0, |(_, counts)| counts.memory());
        budget::reserve(&self.reservation, dedup + counts, self.memory)
    }
}
