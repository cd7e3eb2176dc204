//! The nodes of a cluster: who lives, and questions to all of them.
