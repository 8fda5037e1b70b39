//! Versioned objects with watch: in memory for reads, in redb for durability.
