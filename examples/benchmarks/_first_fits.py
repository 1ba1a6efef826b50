"""The shortest way from arrays to predictions in each package; what `bench_comparison` runs and counts the lines of.

Inputs F and solutions U, arrays (n_samples, n_points), lead to predictions P for inputs G; or trajectories U,
(n_trajectories, n_times, n_points), with times `dt` and points `dx` apart, to states P after `n_steps` steps from G.
"""

#: Scripts by the package that they need.
MAPS = {
    "sklearn_hss": """
from sklearn_hss import HSSRegressor
P = HSSRegressor().fit(F, U).predict(G)
""",
    "scikit-learn": """
from sklearn.gaussian_process import GaussianProcessRegressor
P = GaussianProcessRegressor().fit(F, U).predict(G)
""",
    "neuraloperator": """
import torch
from neuralop.data.transforms.data_processors import DefaultDataProcessor
from neuralop.losses import LpLoss
from neuralop.models import FNO
from neuralop.training import AdamW, Trainer
f, u, g = (torch.as_tensor(a, dtype=torch.float32)[:, None] for a in (F, U, G))
x_scale, y_scale = f.std(), u.std()
samples = [{"x": x, "y": y} for x, y in zip(f / x_scale, u / y_scale)]
loader = torch.utils.data.DataLoader(samples, batch_size=16, shuffle=True)
net = FNO((16,), in_channels=1, out_channels=1, hidden_channels=32)
optimizer = AdamW(net.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_epochs)
trainer = Trainer(model=net, n_epochs=n_epochs, data_processor=DefaultDataProcessor(), eval_interval=n_epochs + 1)
trainer.train(loader, {}, optimizer, scheduler, training_loss=LpLoss(d=1))
with torch.no_grad():
    P = y_scale.numpy() * net(g / x_scale)[:, 0].numpy()
""",
    "DeepXDE": """
import numpy as np
import deepxde as dde
x = np.linspace(-1, 1, F.shape[1], dtype=np.float32)[:, None]
x_scale, y_scale = F.std(), U.std()
f, u, g = (F / x_scale).astype(np.float32), (U / y_scale).astype(np.float32), (G / x_scale).astype(np.float32)
data = dde.data.TripleCartesianProd((f, x), u, (f, x), u)
net = dde.nn.DeepONetCartesianProd([F.shape[1], 128, 128], [1, 128, 128], "gelu", "Glorot normal")
model = dde.Model(data, net)
model.compile("adam", lr=1e-3, decay=("cosine", n_epochs, 0))
model.train(iterations=n_epochs, batch_size=16)
P = y_scale * model.predict((g, x))
""",
}

#: The same for trajectories.
TRAJECTORIES = {
    "sklearn_hss": """
from sklearn_hss import LocalEvolutionRegressor
P = LocalEvolutionRegressor(dt=dt, spacing=dx).fit(U).rollout(G, n_steps)[:, -1]
""",
    "PySINDy": """
import numpy as np
import pysindy
from scipy.integrate import solve_ivp
x = dx * np.arange(U.shape[2])
products = pysindy.PolynomialLibrary(degree=2, include_bias=False)
library = pysindy.PDELibrary(products, derivative_order=2, spatial_grid=x, diff_kwargs={"periodic": True})
data = [u.T[:, :, None] for u in U]
model = pysindy.SINDy(feature_library=library, optimizer=pysindy.STLSQ(threshold=1e-3)).fit(data, t=dt)
def slope(t, u):
    return model.predict(u[:, None, None])[:, 0, 0]
P = np.array([solve_ivp(slope, (0, n_steps * dt), u, method="LSODA").y[:, -1] for u in G])
""",
    "PyDMD": """
from pydmd import DMD
before, after = (states.reshape(-1, U.shape[2]) for states in (U[:, :-1], U[:, 1:]))
model, P = DMD(svd_rank=0).fit(before.T, after.T), G.T
for _ in range(n_steps):
    P = model.predict(P)
P = P.T.real
""",
    "opinf": """
import numpy as np
from opinf.basis import PODBasis
from opinf.lstsq import L2Solver
from opinf.models import DiscreteModel
before, after = (states.reshape(-1, U.shape[2]).T for states in (U[:, :-1], U[:, 1:]))
basis = PODBasis(num_vectors=20).fit(before)
model = DiscreteModel("AH", solver=L2Solver(1e-2)).fit(basis.compress(before), nextstates=basis.compress(after))
P = np.array([basis.decompress(model.predict(basis.compress(u), n_steps + 1)[:, -1]) for u in G])
""",
}
