//! The object stores that plans name, opened when one first does, with this process's own credentials (`AWS_*`).

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::Result as EngineResult;
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use parking_lot::Mutex;
use url::{Position, Url};

use crate::lake::store::Store;

/// Those that were opened, by their address.
#[derive(Debug, Default)]
pub(super) struct Stores {
    open: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl ObjectStoreRegistry for Stores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.open.lock().insert(url[..Position::BeforePath].to_owned(), store)
    }

    fn get_store(&self, url: &Url) -> EngineResult<Arc<dyn ObjectStore>> {
        let root = &url[..Position::BeforePath];
        let mut open = self.open.lock();
        if let Some(store) = open.get(root) {
            return Ok(Arc::clone(store));
        }
        let store = Arc::clone(Store::open(&format!("{root}/"))?.object_store());
        open.insert(root.to_owned(), Arc::clone(&store));
        Ok(store)
    }
}
