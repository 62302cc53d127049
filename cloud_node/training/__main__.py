from cloud_node.training.cli import main

raise SystemExit(main())
