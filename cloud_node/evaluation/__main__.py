from cloud_node.evaluation.cli import main

raise SystemExit(main())
