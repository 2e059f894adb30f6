//! Our own operators on their way to a worker. The engine's travel by themselves, and functions by their names.

use std::sync::Arc;

use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::{Result, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use url::Url;

use super::stores::Stores;
use crate::lake::store::Store;
use crate::lake::write_files::{Destination, WriteFilesExec, part};
use crate::optimizer::portions::PortionsExec;

/// Writes and reads them.
#[derive(Debug)]
pub(super) struct Codec {
    /// Where a worker writes files; a server only sends.
    stores: Option<Arc<Stores>>,
}

impl Codec {
    pub(super) fn new(stores: Option<Arc<Stores>>) -> Self {
        Codec { stores }
    }
}

/// An operator without its inputs.
#[derive(Debug, Serialize, Deserialize)]
enum Operator {
    Portions,
    WriteFiles {
        /// The store's address, and the table's place in it.
        root: String,
        prefix: String,
        /// The table's columns: an Arrow stream without rows.
        schema: Vec<u8>,
        part: Option<String>,
    },
}

impl Operator {
    fn of(node: &dyn ExecutionPlan) -> Result<Self> {
        if node.is::<PortionsExec>() {
            return Ok(Operator::Portions);
        }
        let Some(write) = node.downcast_ref::<WriteFilesExec>() else {
            return internal_err!("{} does not travel", node.name());
        };
        let Destination { store, schema, part } = write.destination();
        let mut bytes = vec![];
        StreamWriter::try_new(&mut bytes, schema)?.finish()?;
        Ok(Operator::WriteFiles {
            root: store.root_url().to_string(),
            prefix: store.prefix().to_string(),
            schema: bytes,
            part: part.map(str::to_owned),
        })
    }
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &TaskContext,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok(operator) = serde_json::from_slice(buf) else {
            return internal_err!("an operator that is not one of toplake's");
        };
        match (operator, inputs) {
            (Operator::Portions, [input]) => Ok(Arc::new(PortionsExec::new(Arc::clone(input)))),
            (Operator::WriteFiles { root, prefix, schema, part: name }, [input]) => {
                let Some(stores) = &self.stores else {
                    return internal_err!("a server writes no files for others");
                };
                let Ok(root) = Url::parse(&root) else {
                    return internal_err!("'{root}' is no store's address");
                };
                let store = Store::of_parts(stores.get_store(&root)?, root, Path::from(prefix));
                let schema = StreamReader::try_new(schema.as_slice(), None)?.schema();
                let to = Destination { store, schema, part: name.as_deref().and_then(part) };
                Ok(Arc::new(WriteFilesExec::new(Arc::clone(input), to)))
            }
            (operator, inputs) => internal_err!("{operator:?} has not {} inputs", inputs.len()),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let operator = Operator::of(node.as_ref())?;
        match serde_json::to_writer(buf, &operator) {
            Ok(()) => Ok(()),
            Err(e) => internal_err!("{}: {e}", node.name()),
        }
    }
}
