package address_test

import "time"

// nodesTime is when the blocks that tests make were claimed.
var nodesTime = time.Unix(1_800_000_000, 0)
