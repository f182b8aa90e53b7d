"""How runs are evaluated.

  python -m launch.evaluate --config.runs=runs/tiny --config.data=datasets/jets \\
      --config.out=reports/tiny

runs          workdirs of launch.train, separated by commas; or stages in them, or checkpoints. Of
              each stage the best checkpoint is taken, else the last.
data          data set from launch.ingest.
out           folder of results.json and report.html.
split         train, valid or test.
max_events    at most so many jets, 0 for all.
train_events  at most so many jets of training, on which probes and trivial generators are fitted; 0
              leaves them out.
seed          of hidden particles and measurements, generated jets, the choice of jets for FPD
              and KPD, probes and the map.
lengths       padded lengths in predictions: each is compiled once for each task. () are those of
              launch.predict, with which scores agree to the last bit only then.
background    class that rejections are of.
bootstrap     resamplings behind the errors that have no formula; 0 leaves them out.
jetnet_events jets on each side on which FPD and KPD are measured, at most, 0 for all; published:
              50,000, for which there must be twice as many jets.
probes        of knn, mlp1, mlp2, mlp3, on the embedding of the pretrained encoder.
figures       whether the report has pictures.
map_events    jets in the map of the embedding, 0 for no map.
"""

from ml_collections import ConfigDict


def get_config():
  config = ConfigDict()
  config.runs = ()
  config.data = ""
  config.out = ""
  config.split = "test"
  config.max_events = 0
  config.train_events = 3_000
  config.seed = 0
  config.lengths = ()
  config.background = "QCD"
  config.bootstrap = 20
  config.jetnet_events = 50_000
  config.probes = ("knn", "mlp1", "mlp2", "mlp3")
  config.figures = True
  config.map_events = 1_000
  return config
