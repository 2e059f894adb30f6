//! What servers do by themselves: it runs what it is given, and knows nothing of what that does.
//!
//! | file | what |
//! | --- | --- |
//! | [`task`] | what each server does for itself, again and again |
//! | [`scheduler`] | jobs of a warehouse: of all its servers, one runs each |

pub mod scheduler;
pub mod task;
